"""The published GNVR protocol as a plain script of PyTorch, Optuna and `vmap(grad)`, without anything of hpo.

`python -m hpo.bench.plain_script TRIALS SEEDS TUNING_EPOCHS EPOCHS` is the process that `hpo bench published` times.
"""

import sys
from typing import Any

import optuna
import torch
import torch.nn.functional as F
from mnist1d.data import get_dataset_args, make_dataset
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

BATCH = 64


class Data:
    """Training part, validation part and test set, with 20% label noise."""

    def __init__(self) -> None:
        arguments = get_dataset_args()
        arguments.num_samples = 4000
        data = make_dataset(arguments)
        inputs, labels = torch.tensor(data["x"]).float(), torch.tensor(data["y"])
        self.test = torch.tensor(data["x_test"]).float(), torch.tensor(data["y_test"])
        changed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[: len(labels) // 5]
        labels[changed] = torch.randint(10, (len(changed),), generator=torch.Generator().manual_seed(1))
        split = len(labels) * 4 // 5
        self.training = inputs[:split], labels[:split]
        self.validation = inputs[split:], labels[split:]


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (model(inputs).argmax(1) == labels).double().mean().item()


def train(data: Data, seed: int, setting: dict[str, float], epochs: int) -> tuple[float, nn.Module]:
    """The best validation accuracy of any epoch, and the model after the last."""
    torch.manual_seed(seed)
    layers = [nn.Linear(40, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters(), setting["lr"], weight_decay=setting["decay"])

    def sample_loss(params: dict[str, Tensor], value: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, params, (value[None],)), target[None])

    sample_grads = vmap(grad(sample_loss), (None, 0, 0))
    inputs, labels = data.training
    best = 0.0
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for start in range(0, len(labels) - BATCH + 1, BATCH):
            batch = order[start : start + BATCH]
            loss = F.cross_entropy(model(inputs[batch]), labels[batch])
            if "lambda" in setting:
                each = sample_grads(dict(model.named_parameters()), inputs[batch], labels[batch])
                squares = torch.stack([leaf.flatten(1).square().sum(1) for leaf in each.values()]).sum(0)
                loss = loss + setting["lambda"] * (squares + 1e-8).sqrt().var()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        best = max(best, accuracy(model, *data.validation))
    return best, model


def run(trials: int, seeds: int, tuning_epochs: int, epochs: int) -> dict[str, list[float]]:
    """The test accuracies of each configuration's best setting, by seed."""
    data, results = Data(), {}
    for name in ("Baseline", "GNVR"):

        def objective(trial: optuna.Trial, name: str = name) -> float:
            ranges = {"lr": (1e-4, 1e-2), "decay": (1e-6, 1e-1)} | ({"lambda": (1e-3, 10)} if name == "GNVR" else {})
            setting = {key: trial.suggest_float(key, *ends, log=True) for key, ends in ranges.items()}
            return train(data, 0, setting, tuning_epochs)[0]

        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(objective, trials)
        models = [train(data, seed, study.best_params, epochs)[1] for seed in range(1, seeds + 1)]
        results[name] = [accuracy(model, *data.test) for model in models]
    return results


if __name__ == "__main__":
    numbers: Any = map(int, sys.argv[1:])
    print(run(*numbers))
