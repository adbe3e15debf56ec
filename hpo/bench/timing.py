"""Timing: the median of repetitions, after warming up."""

import statistics
from collections.abc import Callable, Sequence

import torch

from hpo.training.step_times import RunSteps, time_in_turns

SECONDS = 1.0  # for one measurement
WARMUP_STEPS = 3


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a step over several series of steps, after warming up."""
    return seconds_in_turns([step], device)[0]


def seconds_in_turns(steps: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """The same for several steps, whose series take turns, so that what else the machine does affects all of them."""
    runs = [_repeat(step) for step in steps]
    for run in runs:
        run(WARMUP_STEPS)
    return [statistics.median(series) for series in zip(*time_in_turns(runs, device, SECONDS), strict=True)]


def _repeat(step: Callable[[], object]) -> RunSteps:
    def run(count: int) -> None:
        for _ in range(count):
            step()

    return run
