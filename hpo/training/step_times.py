"""The time of a training step of several configurations, measured by turns: what else the machine does affects all."""

import math
import time
from collections.abc import Callable, Sequence

import torch

from hpo.errors import UsageError
from hpo.training.devices import synchronize
from hpo.training.loop import make_population, make_samples
from hpo.training.recipe import Member, Recipe
from hpo.training.steps import Steps

ROUNDS = 7
CALIBRATION = 2  # steps that determine how many make a series

RunSteps = Callable[[int], object]  # runs so many steps


def time_recipes(
    recipes: Sequence[Recipe],
    members: Sequence[Sequence[Member]],
    device: torch.device,
    seconds: float,
    limit: float = math.inf,
) -> list[list[float]]:
    """Seconds of the training step of populations, without evaluation.

    Args:
        members: of each recipe's population. All populations are in memory together.
        seconds: for all series of one population. limit: seconds after which no further population is built.

    Returns:
        [ROUNDS, recipes]; empty if the limit has passed.

    Raises:
        UsageError: the samples are read from files while training.
    """
    start, runs = time.perf_counter(), []
    for recipe, models in zip(recipes, members, strict=True):
        if time.perf_counter() - start > limit:
            return []
        runs.append(_prepare(recipe, models, device))
    return [] if time.perf_counter() - start > limit else time_in_turns(runs, device, seconds)


def time_in_turns(runs: Sequence[RunSteps], device: torch.device, seconds: float) -> list[list[float]]:
    """Seconds of one step [ROUNDS, runs]: in each round a series of steps of every run.

    Args:
        seconds: for all series of one run, each of which has one step at least. With one thread on a CPU they are
            seconds of processor time.
    """

    # One thread's processor time is its wall time on an idle machine, and other processes hardly change it.
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter

    def time_series(run: RunSteps, steps: int) -> float:
        start = clock()
        run(steps)
        synchronize(device)
        return (clock() - start) / steps

    counts = [max(1, round(seconds / ROUNDS / time_series(run, CALIBRATION))) for run in runs]
    return [[time_series(*series) for series in zip(runs, counts, strict=True)] for _ in range(ROUNDS)]


def _prepare(recipe: Recipe, members: Sequence[Member], device: torch.device) -> RunSteps:
    """A population in its first epoch, beyond the steps that take longer than usual."""
    if recipe.source.is_streamed:
        raise UsageError(
            "steps cannot be timed by turns where images are read from files while training; `hpo bench images` "
            "measures the reading"
        )
    samples = make_samples(recipe, members, device)
    population = make_population(recipe, members, samples)
    schedules, keep_last = recipe.all_schedules, recipe.last_batch == "keep"
    steps = Steps(population, samples, recipe.batch_size, recipe.epochs, schedules, keep_last=keep_last)

    def run(count: int) -> None:
        with steps.on_stream():
            for _ in range(count):
                steps.next()

    steps.start_epoch(1)
    run(steps.warmup_steps + 1)  # step 4 compares the trace with the user's code
    synchronize(device)
    return run
