"""Benchmarks: how long a model's step takes in a population, and in the usual loop over one model."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo import __version__
from hpo.bench.limits import Limits, Work, measure_limits, products_of, work_of
from hpo.bench.timing import seconds
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
MOST_DOUBLINGS = 13
ASKED = ("operations", "bytes", "of_products", "of_copy", "of_roofline", "of_own_products")
LEGEND = (
    "× naive: times as fast as a loop over single models. MFLOP, MB: the least that a model's step computes\n"
    "and moves. Of products, of copies: the part of its time that this takes at the rates above; of its own: the part\n"
    "that its own matrix products take by themselves (beyond 100%: the machine is busy)."
)
WORTH = 0.97  # a larger population must take at most this share of the time a model


def measure(
    regularizers: Sequence[str],
    populations: Sequence[int] | None,
    device: torch.device,
    model: str = "mlp",
    batch_size: int = 64,
    show: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Times training steps with AdamW; evaluation is not included.

    Args:
        populations: sizes to measure; by default 1, 2, 4, … until a model's share of the time no longer falls, or the
            memory ends.
        model: a key of `MODELS`.
        show: told a line of a table as each figure is known.

    Returns:
        JSON values: the setting, the device's `limits` as measured in the same run, and a row for every regularizer
        and population with `ms` (per model and step), `model_steps_per_second`, `times_naive` (how many times as fast
        as the naive loop of the same regularizer: one model, per-sample gradients by `vmap(grad)` where the
        regularizer asks about samples, and `torch.optim`), `operations` and `bytes` of a model's step (see
        `limits.work_of`), and which part of its time they take at the limits: `of_products`, `of_copy` and the larger
        of the two, `of_roofline`. `of_own_products` is the part that the step's own products take, timed without
        the rest. These are None for the naive loop.
    """
    limits = measure_limits(device, (populations or [20])[-1], batch_size)
    found: dict[str, Any] = {
        "hpo": __version__,
        "torch": torch.__version__,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "model": str(MODELS[model][0]),
        "optimizer": OPTIMIZER,
        "batch_size": batch_size,
        "limits": limits._asdict(),
        "rows": [],
    }
    if show:
        show(
            f"{found['device']}, {found['threads']} threads, {found['model']}, {OPTIMIZER}, batch {batch_size}, no "
            f"evaluation; products {limits.operations / 1e9:.0f} GFLOP/s, copies {limits.bytes / 1e9:.1f} GB/s"
        )
        show(
            f"{'regularizer':12} {'population':>10} {'ms/model-step':>14} {'model-steps/s':>14} {'× naive':>8} "
            f"{'MFLOP':>8} {'MB':>7} {'of products':>12} {'of copies':>10} {'of its own':>11}"
        )
    if show:
        show(LEGEND)
    for name in regularizers:
        naive = seconds(_naive_step(name, model, batch_size, device), device)
        _add(found, _row(name, "naive", naive, naive), show)
        for row in _growing(name, populations, model, batch_size, device, naive, limits):
            _add(found, row, show)
    return found


def _growing(
    name: str,
    populations: Sequence[int] | None,
    model: str,
    batch_size: int,
    device: torch.device,
    naive: float,
    limits: Limits,
) -> Iterator[dict[str, Any]]:
    """A row for each population; without a choice of them, until it no longer pays to grow."""
    best = math.inf
    for models in populations or (2**power for power in range(MOST_DOUBLINGS)):
        try:
            step, work = _population_step(name, models, model, batch_size, device)
            each = seconds(step, device) / models
            own = seconds(products_of(step), device) / models
        except (MemoryError, torch.OutOfMemoryError):
            if populations:
                raise
            return
        yield _row(name, models, each, naive, _asked(limits, work(), each) | {"of_own_products": own / each})
        if not populations and each > WORTH * best:
            return
        best = min(best, each)


def _asked(limits: Limits, work: Work, taken: float) -> dict[str, float]:
    products, copy = limits.shares(work, taken)
    return {**work._asdict(), "of_products": products, "of_copy": copy, "of_roofline": max(products, copy)}


def _row(
    name: str, population: int | str, taken: float, naive: float, asked: Mapping[str, float] = MappingProxyType({})
) -> dict[str, Any]:
    return {
        "regularizer": name,
        "population": population,
        "ms": taken * 1e3,
        "model_steps_per_second": 1 / taken,
        "times_naive": naive / taken,
        **{key: asked.get(key) for key in ASKED},
    }


def _add(found: dict[str, Any], row: dict[str, Any], show: Callable[[str], None] | None) -> None:
    found["rows"].append(row)
    if show:
        rates = f"{row['ms']:14.3f} {row['model_steps_per_second']:14.0f} {row['times_naive']:8.1f}"
        asked = ""
        if row["operations"] is not None:
            asked = f"{row['operations'] / 1e6:8.2f} {row['bytes'] / 1e6:7.2f} {row['of_products']:12.0%}"
            asked += f" {row['of_copy']:10.0%} {row['of_own_products']:11.0%}"
        show(f"{row['regularizer']:12} {row['population']!s:>10} {rates} {asked}".rstrip())


def _population_step(
    name: str, models: int, model: str, batch_size: int, device: torch.device
) -> tuple[Callable[[], object], Callable[[], Work]]:
    """The step, and what asks for its `work_of`."""
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

    def step() -> object:
        return population.step(inputs, labels)

    return step, lambda: work_of(step, population, (inputs, labels))


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


def random_batch(leading: tuple[int, int, int], shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs [models, views, samples, ...] and labels [models, samples] for `leading` = (models, views, samples)."""
    models, _, samples = leading
    inputs = torch.randn(*leading, *shape, device=device)
    return inputs, torch.randint(CLASSES, (models, samples), device=device)


def _middles(hyperparameters: Any) -> dict[str, float]:
    return {key: entry.middle() if isinstance(entry, Range) else entry for key, entry in hyperparameters.items()}
