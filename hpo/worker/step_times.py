"""Measures by turns how long a training step of each configuration takes, for the report's table of costs."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hpo.space import Setting
from hpo.training.devices import device_name
from hpo.training.recipe import Member
from hpo.training.step_times import time_recipes
from hpo.worker.trainer import Trainer


def measure_step_times(
    trainer: Trainer,
    settings: Mapping[str, Setting],
    populations: Sequence[int],
    seconds: float,
    limit: float = math.inf,
) -> dict[str, Any] | None:
    """Times the training steps of all configurations, without evaluation, in rounds in which they take turns.

    Args:
        settings: configuration → the complete setting of its models.
        populations: the numbers of models that are trained together. seconds: for one configuration and size.
        limit: seconds after which no further population is built.

    Returns:
        JSON values: device, threads, `time` (Unix seconds) and a row for each size and configuration with its
        population, `ms` (median milliseconds per model and step), `ratio` to the baseline (the median of the rounds'
        ratios) and their quartiles, `low` and `high`. None if the limit has passed before the first row.
    """
    start, rows = time.perf_counter(), []
    for population in populations:
        recipes, members = [], []
        for name, setting in settings.items():
            parts = trainer.recipes.parts(name, setting)
            recipes.append(trainer.recipe(trainer.configuration(name), True, parts.training))
            members.append([Member(seed, parts.hyperparameters) for seed in range(population)])
        left = limit - (time.perf_counter() - start)
        rounds = time_recipes(recipes, members, trainer.device, seconds, left)
        rows += _rows(list(settings), population, rounds, trainer.study.baseline)
    if not rows:
        return None
    device, threads = device_name(trainer.device), torch.get_num_threads()
    return {"device": device, "threads": threads, "time": time.time(), "rows": rows}


def populations_to_time(trainer: Trainer, settings: Mapping[str, Setting], models: int) -> list[int]:
    """As many models as train together, and one: no more than memory holds of all configurations at once.

    Args:
        models: that are planned at most.
    """
    limits = [
        trainer.limits.beside(name, trainer.recipes.parts(name, setting).training, len(settings))
        for name, setting in settings.items()
    ]
    return sorted({min(models, trainer.limits.largest(), *limits), 1}, reverse=True)


def _rows(
    names: Sequence[str], population: int, rounds: Sequence[Sequence[float]], baseline: str
) -> list[dict[str, Any]]:
    if not rounds:
        return []
    index = names.index(baseline)
    medians = [statistics.median(series) for series in zip(*rounds, strict=True)]
    rows = []
    for position, name in enumerate(names):
        low, ratio, high = statistics.quantiles((each[position] / each[index] for each in rounds), method="inclusive")
        rows.append({
            "configuration": name, "population": population, "ms": medians[position] / population * 1e3,
            "ratio": ratio, "low": low, "high": high,
        })  # fmt: skip
    return rows
