"""Benchmark: how long a model's training step takes in a population, and in the usual loop over single models."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from hpo import __version__
from hpo.bench.limits import Amount, count_work, extract_products, measure_limits
from hpo.bench.table import OnRow, Row
from hpo.bench.timing import seconds, seconds_in_turns
from hpo.bench.training_steps import MODELS, Setting, make_population, naive_step, training_steps
from hpo.training.devices import device_name

MAX_DOUBLINGS = 13
MIN_GAIN = 0.03  # the share by which a larger population must reduce the time per model
COLUMNS = {
    "regularizer": (12, "{regularizer}"),
    "population": (10, "{population}"),
    "ms/model-step": (13, "{ms:.3f}"),
    "model-steps/s": (13, "{model_steps_per_second:.0f}"),
    "× naive": (7, "{times_naive:.1f}"),
    "MFLOP": (7, "{mflop:.2f}"),
    "MB": (6, "{mb:.2f}"),
    "products": (8, "{products_share:.0%}"),
    "copies": (6, "{copies_share:.0%}"),
    "own products": (12, "{own_products_share:.0%}"),
}


def measure(regularizers: Sequence[str], populations: Sequence[int] | None, setting: Setting, on_row: OnRow) -> Row:
    """Times training steps; evaluation is not included.

    Args:
        populations: sizes to measure; by default 1, 2, 4, … until a model's share of the time no longer falls, or
            memory is exhausted.

    Returns:
        JSON values: the setting, the device's `limits` as measured in the same run (float32), and a row for every
        regularizer and population with `ms` (per model and step), `model_steps_per_second`, `times_naive` (how many
        times as fast as the naive loop of the same regularizer: one model, per-sample gradients by `vmap(grad)` if the
        regularizer needs them, and `torch.optim`; measured again in turns with it, `naive_ms`), `mflop` and `mb` of a
        model's step (see `count_work`), and the share of its time that they take at the limits: `products_share`,
        `copies_share` and the larger of the two, `roofline_share`. `own_products_share` is the share that the step's
        own matrix products take, timed separately. The naive loop has none of these.
    """
    limits = measure_limits(setting.device, (populations or [20])[-1], setting.batch_size)
    rows = []
    for name in regularizers:
        for row in _measure_regularizer(name, populations, setting, limits):
            rows.append(row)
            on_row(row)
    return {
        "hpo": __version__, "torch": torch.__version__, "device": device_name(setting.device),
        "threads": torch.get_num_threads(), "model": str(MODELS[setting.model][0]), "optimizer": setting.optimizer,
        "batch_size": setting.batch_size, "precision": "bfloat16" if setting.bfloat16 else "float32",
        "limits": limits._asdict(), "rows": rows,
    }  # fmt: skip


def summary(result: Row) -> str:
    """The setting, the device's limits, and what the columns mean."""
    limits = result["limits"]
    return (
        f"{result['device']}, {result['threads']} threads, {result['model']}, {result['optimizer']}, "
        f"batch {result['batch_size']}, {result['precision']}, no evaluation; "
        f"products {limits['operations'] / 1e9:.0f} GFLOP/s, copies {limits['bytes'] / 1e9:.1f} GB/s\n"
        "× naive: times as fast as a loop over single models. MFLOP, MB: the least that a model's step computes and "
        "moves.\nproducts, copies: the share of its time that this takes at the rates above. own products: the share "
        "that its\nown matrix products take when they are timed separately (above 100%: the machine is busy)."
    )


def _measure_regularizer(
    name: str, populations: Sequence[int] | None, setting: Setting, limits: Amount
) -> Iterator[Row]:
    """The row of the naive loop, then one for each population; by default until a larger one gains too little."""
    naive = naive_step(name, setting)
    alone = seconds(naive, setting.device)
    yield _row(name, "naive", alone, alone)
    best = math.inf
    for models in populations or (2**power for power in range(MAX_DOUBLINGS)):
        try:
            step, beside, products, work = _measure_population(name, models, setting, naive)
        except (MemoryError, torch.OutOfMemoryError):
            if populations:
                raise
            return
        yield _row(name, models, step, beside) | _shares(limits, work, step, products)
        if not populations and step > (1 - MIN_GAIN) * best:
            return
        best = min(best, step)


def _row(name: str, population: int | str, step: float, naive: float) -> Row:
    rates = {"ms": step * 1e3, "model_steps_per_second": 1 / step, "times_naive": naive / step, "naive_ms": naive * 1e3}
    return {"regularizer": name, "population": population, **rates}


def _shares(limits: Amount, work: Amount, step: float, products: float) -> Row:
    operations, copies = work.operations / limits.operations / step, work.bytes / limits.bytes / step
    shares = {"products_share": operations, "copies_share": copies, "roofline_share": max(operations, copies)}
    return {"mflop": work.operations / 1e6, "mb": work.bytes / 1e6, **shares, "own_products_share": products / step}


def _measure_population(
    name: str, models: int, setting: Setting, naive: Callable[[], object]
) -> tuple[float, float, float, Amount]:
    """Per model: seconds of a step as in training, of a naive one, of the step's matrix products only, and its work."""
    population, batch = make_population(name, models, setting)
    steps = training_steps(population, setting)
    with steps.on_stream():
        for _ in range(steps.warmup_steps):
            steps.next()
        step_seconds, naive_seconds = seconds_in_turns([steps.next, naive], setting.device)

    def step() -> Any:
        return population.step(*batch)

    products = seconds(extract_products(step, setting.device), setting.device)
    return step_seconds / models, naive_seconds, products / models, count_work(step, population, batch)
