"""`hpo run gnvr_published` by turns with a plain script of the same protocol: PyTorch, Optuna, and vmap(grad).

    python tests/benchmarks/gnvr_script.py --rounds 1 --trials 2 --seeds 1 --tuning-epochs 2 --epochs 3

Without the last four options it is the whole protocol, which takes the script many minutes. Both use all cores, as they
do by default. `--script` runs the script alone; `--against FOLDER` runs another checkout of hpo instead of the script.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def script(trials: int, seeds: int, tuning_epochs: int, epochs: int) -> dict[str, list[float]]:
    """Test accuracies of the best setting of each configuration, by seed."""
    import optuna
    import torch
    import torch.nn.functional as F
    from mnist1d.data import get_dataset_args, make_dataset
    from torch import Tensor, nn
    from torch.func import functional_call, grad, vmap

    arguments = get_dataset_args()
    arguments.num_samples = 4000
    data = make_dataset(arguments)
    inputs, labels = (torch.tensor(data[name]) for name in ("x", "y"))
    test_inputs, test_labels = (torch.tensor(data[name]) for name in ("x_test", "y_test"))
    inputs, test_inputs = inputs.float(), test_inputs.float()
    generator = torch.Generator().manual_seed(0)
    changed = torch.randperm(len(labels), generator=generator)[: len(labels) // 5]
    labels[changed] = torch.randint(10, (len(changed),), generator=generator)
    split = len(labels) * 4 // 5

    def accuracy(model: nn.Module, values: Tensor, targets: Tensor) -> float:
        with torch.no_grad():
            return (model(values).argmax(1) == targets).double().mean().item()

    def train(seed: int, setting: dict[str, float], count: int) -> tuple[float, nn.Module]:
        torch.manual_seed(seed)
        layers = [nn.Linear(40, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
        model = nn.Sequential(*layers)
        optimizer = torch.optim.AdamW(model.parameters(), setting["lr"], weight_decay=setting["decay"])

        def sample_loss(params: dict[str, Tensor], value: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(model, params, (value[None],)), target[None])

        sample_grads = vmap(grad(sample_loss), (None, 0, 0))
        best = 0.0
        for _ in range(count):
            order = torch.randperm(split)
            for start in range(0, split - 63, 64):
                batch = order[start : start + 64]
                loss = F.cross_entropy(model(inputs[batch]), labels[batch])
                if "lambda" in setting:
                    each = sample_grads(dict(model.named_parameters()), inputs[batch], labels[batch])
                    norms = sum(leaf.flatten(1).square().sum(1) for leaf in each.values())
                    loss = loss + setting["lambda"] * (norms + 1e-8).sqrt().var()  # type: ignore[operator]
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            best = max(best, accuracy(model, inputs[split:], labels[split:]))
        return best, model

    results: dict[str, list[float]] = {}
    for name in ("Baseline", "GNVR"):

        def objective(trial: optuna.Trial, name: str = name) -> float:
            setting = {
                "lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True),
                "decay": trial.suggest_float("decay", 1e-6, 1e-1, log=True),
            }
            if name == "GNVR":
                setting["lambda"] = trial.suggest_float("lambda", 1e-3, 10, log=True)
            return train(0, setting, tuning_epochs)[0]

        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(objective, trials)
        models = [train(seed, study.best_params, epochs)[1] for seed in range(1, seeds + 1)]
        results[name] = [accuracy(model, test_inputs, test_labels) for model in models]
    return results


def timed(command: list[str], folder: Path, root: Path | None = None) -> float:
    """Seconds of a command that must succeed."""
    start = time.perf_counter()
    path = {"PYTHONPATH": str(root)} if root else {}
    subprocess.run(command, cwd=folder, env=os.environ | path, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def hpo_run(options: argparse.Namespace, root: Path) -> float:
    """Seconds of `hpo run` on a copy of the study with this protocol, in a new folder."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "studies").mkdir()
        text = (root / "studies/gnvr_published.py").read_text()
        text = text.replace("tuning_epochs=15", f"tuning_epochs={options.tuning_epochs}")
        (folder / "studies/published.py").write_text(text.replace(" epochs=30", f" epochs={options.epochs}"))
        numbers = ["--trials", str(options.trials), "--seeds", str(options.seeds)]
        return timed([sys.executable, "-m", "hpo", "run", "published", *numbers, *options.more], folder, root)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of both by round, their ratio, and the memory of the largest process."""
    own = [str(getattr(options, name)) for name in ("trials", "seeds", "tuning_epochs", "epochs")]
    flags = [
        word for pair in zip(("--trials", "--seeds", "--tuning-epochs", "--epochs"), own, strict=True) for word in pair
    ]
    other, hpo = [], []
    for _ in range(options.rounds):
        if options.against:
            other.append(hpo_run(options, options.against.resolve()))
        else:
            other.append(timed([sys.executable, str(Path(__file__).resolve()), "--script", *flags], ROOT))
        hpo.append(hpo_run(options, ROOT))
    ratios = [one / two for one, two in zip(other, hpo, strict=True)]
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"other": other, "hpo": hpo, "ratio": statistics.median(ratios), "largest_process_mib": largest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"rounds": 1, "trials": 20, "seeds": 5, "tuning-epochs": 15, "epochs": 30}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--script", action="store_true")
    parser.add_argument("--against", type=Path)
    parser.add_argument("more", nargs="*", help="after --: further options of hpo run")
    options = parser.parse_args()
    if options.script:
        result: Any = script(options.trials, options.seeds, options.tuning_epochs, options.epochs)
    else:
        result = measure(options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
