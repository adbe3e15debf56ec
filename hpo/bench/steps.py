"""Benchmarks: how long a model's step takes in a population, and in the usual loop over one model."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from hpo import __version__
from hpo.bench.limits import Limits, Work, measure_limits, products_of, work_of
from hpo.bench.timing import seconds
from hpo.bench.training_steps import MODELS, OPTIMIZER, Setting, in_training, naive_step, population_of
from hpo.training.devices import device_name

MOST_DOUBLINGS = 13
ASKED = ("operations", "bytes", "of_products", "of_copy", "of_roofline", "of_own_products")
LEGEND = (
    "× naive: times as fast as a loop over single models. MFLOP, MB: the least that a model's step computes\n"
    "and moves. Of products, of copies: the part of its time that this takes at the rates above; of its own: the part\n"
    "that its own matrix products take by themselves (beyond 100%: the machine is busy)."
)
MIN_GAIN = 0.03  # a larger population must shorten the time a model by at least this share


def measure(
    regularizers: Sequence[str],
    populations: Sequence[int] | None,
    device: torch.device,
    model: str = "mlp",
    batch_size: int = 64,
    bfloat16: bool = False,
    show: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Times training steps with AdamW; evaluation is not included.

    Args:
        populations: sizes to measure; by default 1, 2, 4, … until a model's share of the time no longer falls, or the
            memory ends.
        model: a key of `MODELS`. bfloat16: in mixed precision, and a single network's images with channels last; the
            naive loop likewise. The limits are those of float32.
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
    setting = Setting(model, batch_size, device, bfloat16)
    limits = measure_limits(device, (populations or [20])[-1], batch_size)
    found: dict[str, Any] = {
        "hpo": __version__,
        "torch": torch.__version__,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "model": str(MODELS[model][0]),
        "optimizer": OPTIMIZER,
        "batch_size": batch_size,
        "precision": "bfloat16" if bfloat16 else "float32",
        "limits": limits._asdict(),
        "rows": [],
    }
    if show:
        show(
            f"{found['device']}, {found['threads']} threads, {found['model']}, {OPTIMIZER}, batch {batch_size}, "
            f"{found['precision']}, no evaluation; products {limits.operations / 1e9:.0f} GFLOP/s, "
            f"copies {limits.bytes / 1e9:.1f} GB/s"
        )
        show(
            f"{'regularizer':12} {'population':>10} {'ms/model-step':>14} {'model-steps/s':>14} {'× naive':>8} "
            f"{'MFLOP':>8} {'MB':>7} {'of products':>12} {'of copies':>10} {'of its own':>11}"
        )
    if show:
        show(LEGEND)
    for name in regularizers:
        naive = seconds(naive_step(name, setting), device)
        _add(found, _row(name, "naive", naive, naive), show)
        for row in _growing(name, populations, setting, naive, limits):
            _add(found, row, show)
    return found


def _growing(
    name: str,
    populations: Sequence[int] | None,
    setting: Setting,
    naive: float,
    limits: Limits,
) -> Iterator[dict[str, Any]]:
    """A row for each population; without a choice of them, until it no longer pays to grow."""
    best = math.inf
    for models in populations or (2**power for power in range(MOST_DOUBLINGS)):
        try:
            each, own, work = _measured(name, models, setting)
        except (MemoryError, torch.OutOfMemoryError):
            if populations:
                raise
            return
        yield _row(name, models, each, naive, _asked(limits, work, each) | {"of_own_products": own / each})
        if not populations and each > (1 - MIN_GAIN) * best:
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


def _measured(name: str, models: int, setting: Setting) -> tuple[float, float, Work]:
    """A model's share of a step's seconds, as training makes it, of those of its products alone, and of its work."""
    population, batch = population_of(name, models, setting)
    steps = in_training(population, setting)
    with steps.on_stream():
        for _ in range(steps.warmup_steps):
            steps.next()
        taken = seconds(steps.next, setting.device)

    def step() -> object:
        return population.step(*batch)

    own = seconds(products_of(step, setting.device), setting.device)
    return taken / models, own / models, work_of(step, population, batch)
