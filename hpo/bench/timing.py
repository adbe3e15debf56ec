"""Timing: the median of repetitions, after warming up."""

import statistics
import time
from collections.abc import Callable

import torch

from hpo.training.devices import synchronize

SECONDS = 1.0  # for one measurement
REPETITIONS = 7


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a step over `REPETITIONS` series of steps, after warming up."""

    def time_series(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize(device)
        return (time.perf_counter() - start) / steps

    time_series(3)
    steps = max(1, round(SECONDS / REPETITIONS / time_series(3)))
    return statistics.median(time_series(steps) for _ in range(REPETITIONS))
