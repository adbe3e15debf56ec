"""Timing: the median of repetitions, after warming up."""

import statistics
import time
from collections.abc import Callable

import torch

from hpo.training.devices import synchronize

SECONDS = 1.0  # of measuring a figure
REPETITIONS = 7


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a step over several stretches of steps, after warming up."""

    def stretch(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize(device)
        return (time.perf_counter() - start) / steps

    stretch(3)
    steps = max(1, round(SECONDS / REPETITIONS / stretch(3)))
    return statistics.median(stretch(steps) for _ in range(REPETITIONS))
