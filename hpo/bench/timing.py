"""Timing: the median of repetitions, after warming up."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from hpo.training.devices import synchronize

SECONDS = 1.0  # for one measurement
REPETITIONS = 7


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a step over `REPETITIONS` series of steps, after warming up."""
    return seconds_in_turns([step], device)[0]


def seconds_in_turns(steps: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """The same for several steps, whose series take turns, so that what else the machine does affects all of them."""

    def time_series(step: Callable[[], object], count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            step()
        synchronize(device)
        return (time.perf_counter() - start) / count

    for step in steps:
        time_series(step, 3)
    counts = [max(1, round(SECONDS / REPETITIONS / time_series(step, 3))) for step in steps]
    rounds = [[time_series(*pair) for pair in zip(steps, counts, strict=True)] for _ in range(REPETITIONS)]
    return [statistics.median(series) for series in zip(*rounds, strict=True)]
