"""Benchmarks: how long a model's step takes in a population, and in the usual loop over one model."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo import __version__
from hpo.devices import device_name
from hpo.losses import cross_entropy
from hpo.models import MLP, ConvNet1d, ResNet18
from hpo.network import Network
from hpo.objective import Objective
from hpo.optimizers import OPTIMIZERS
from hpo.population import Population
from hpo.regularizers import REGULARIZERS
from hpo.space import Range

# Networks by the name that `--model` takes, with the shape of one input; images without BatchNorm, so that every
# regularizer can be measured.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (MLP((40, 256, 256, 10)), (40,)),
    "convnet1d": (ConvNet1d(), (40,)),
    "convnet1d-group": (ConvNet1d(norm="group"), (40,)),
    "resnet18": (ResNet18(norm="group"), (3, 32, 32)),
}
CLASSES = 10
OPTIMIZER = "adamw"
SECONDS = 1.0  # of measuring a figure; the median of its repetitions counts
REPETITIONS = 7


def measure(
    regularizers: Sequence[str],
    populations: Sequence[int],
    device: torch.device,
    model: str = "mlp",
    batch_size: int = 64,
    show: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Times training steps with AdamW; evaluation is not included.

    Args:
        model: a key of `MODELS`.
        show: told a line of a table as each figure is known.

    Returns:
        JSON values: the setting, and a row for every regularizer and population with `ms` (per model and step),
        `model_steps_per_second` and `times_naive`, how many times as fast as the naive loop of the same
        regularizer: one model, per-sample gradients by `vmap(grad)` where the regularizer asks about samples,
        and `torch.optim`.
    """
    found: dict[str, Any] = {
        "hpo": __version__,
        "torch": torch.__version__,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "model": str(MODELS[model][0]),
        "optimizer": OPTIMIZER,
        "batch_size": batch_size,
        "rows": [],
    }
    if show:
        show(
            f"{found['device']}, {found['threads']} threads, {found['model']}, "
            f"{OPTIMIZER}, batch {batch_size}, no evaluation"
        )
        show(f"{'regularizer':12} {'population':>10} {'ms/model-step':>14} {'model-steps/s':>14} {'× naive':>8}")
    for name in regularizers:
        naive = _seconds(_naive_step(name, model, batch_size, device), device)
        _add(found, name, "naive", naive, naive, show)
        for population in populations:
            each = _seconds(_population_step(name, population, model, batch_size, device), device) / population
            _add(found, name, population, each, naive, show)
    return found


def _add(
    found: dict[str, Any],
    name: str,
    population: int | str,
    seconds: float,
    naive: float,
    show: Callable[[str], None] | None,
) -> None:
    row = {
        "regularizer": name,
        "population": population,
        "ms": seconds * 1e3,
        "model_steps_per_second": 1 / seconds,
        "times_naive": naive / seconds,
    }
    found["rows"].append(row)
    if show:
        show(f"{name:12} {population!s:>10} {seconds * 1e3:14.3f} {1 / seconds:14.0f} {naive / seconds:8.1f}")


def _population_step(name: str, models: int, model: str, batch_size: int, device: torch.device) -> Callable[[], object]:
    regularizer, optimizer = REGULARIZERS[name], OPTIMIZERS[OPTIMIZER]
    values = _middles({**optimizer.hyperparameters, **regularizer.hyperparameters})
    torch.manual_seed(0)
    inputs, labels = random_batch((models, regularizer.views, batch_size), MODELS[model][1], device)
    population = Population(
        [MODELS[model][0]() for _ in range(models)],
        regularizer,
        optimizer,
        {key: torch.full((models,), value) for key, value in values.items()},
        cross_entropy,
        inputs[0, 0],
    )
    return lambda: population.step(inputs, labels)


def _naive_step(name: str, model: str, batch_size: int, device: torch.device) -> Callable[[], object]:
    """The step of a script that trains one model: no per-layer rules, PyTorch's own optimizer."""
    regularizer = REGULARIZERS[name]
    torch.manual_seed(0)
    module = MODELS[model][0]().to(device)
    inputs, labels = random_batch((1, regularizer.views, batch_size), MODELS[model][1], device)
    network = Network(module, inputs[0, 0])
    network.without_rules("the naive loop has none")
    values = _middles(regularizer.hyperparameters)
    hyper = {key: torch.tensor(value, device=device) for key, value in values.items()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=1e-3)
    parameters = dict(module.named_parameters())
    state = regularizer.init({key: value.detach() for key, value in parameters.items()})

    def step() -> None:
        nonlocal state
        at = {key: value.detach() for key, value in parameters.items()}
        objective = Objective(network, cross_entropy, inputs[0], labels[0])
        grads, state, _ = regularizer.grads(objective, at, state, hyper)
        for key, parameter in parameters.items():
            parameter.grad = grads[key]
        optimizer.step()

    def plain() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(module(inputs[0, 0]), labels[0]).backward()
        optimizer.step()

    return plain if name == "none" else step


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a step over several stretches of steps, after warming up."""

    def stretch(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / steps

    stretch(3)
    steps = max(1, round(SECONDS / REPETITIONS / stretch(3)))
    return statistics.median(stretch(steps) for _ in range(REPETITIONS))


def random_batch(leading: tuple[int, int, int], shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs [models, views, samples, ...] and labels [models, samples] for `leading` = (models, views, samples)."""
    models, _, samples = leading
    inputs = torch.randn(*leading, *shape, device=device)
    return inputs, torch.randint(CLASSES, (models, samples), device=device)


def _middles(hyperparameters: Any) -> dict[str, float]:
    return {key: entry.middle() if isinstance(entry, Range) else entry for key, entry in hyperparameters.items()}
