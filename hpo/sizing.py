"""How many models to train side by side: measured with the study's own network, regularizer and device."""

import time
from collections.abc import Callable, Mapping

import torch

from hpo.data import split
from hpo.devices import wait_for
from hpo.samples import Samples
from hpo.steps import Steps
from hpo.training import Member, Recipe, populate

MOST = {"cpu": 32, "cuda": 1024}  # beyond these a CPU's caches, or a GPU's arithmetic units, are full
QUICK = 0.005  # seconds: a step below it is mostly overhead on a CPU, which a population shares
WORTH = 0.95  # twice the models must take at most this share of the time a model, or they are not worth their memory
MEMORY_SHARE = 0.5  # of what is free on the device


def choose_population(recipe: Recipe, hyperparameters: Mapping[str, float], device: torch.device, free: float) -> int:
    """The number of models with the shortest time a model-step, within the device's memory; a power of 2.

    The time of a small network's step on a CPU is overhead that a population shares: it takes the most there is.

    Args:
        free: bytes that the device could still give.
    """

    def seconds(models: int) -> float:
        return time_step(recipe, hyperparameters, models, device) / models

    return _choose(seconds, MOST[device.type], QUICK if device.type == "cpu" else 0.0, _memory_holds(recipe, free))


def _choose(seconds: Callable[[int], float], most: int, quick: float, holds: Callable[[int], bool]) -> int:
    """
    Args:
        seconds: a model's share of a step in a population of so many; may raise an out-of-memory error.
        quick: below it a single model is not measured any further. holds: whether memory has room for so many.
    """
    models, best = 1, seconds(1)
    if best < quick:
        while models < most and holds(2 * models):
            models *= 2
        return models
    while models < most and holds(2 * models):
        try:
            found = seconds(2 * models)
        except (MemoryError, torch.OutOfMemoryError):
            break
        if found > WORTH * best:
            break
        models, best = 2 * models, found
    return models


def time_step(recipe: Recipe, hyperparameters: Mapping[str, float], models: int, device: torch.device) -> float:
    """Seconds of a training step of a population, its samples gathered and augmented, after warming up."""
    members = [Member(0, hyperparameters)] * models
    own = split(recipe.source, recipe.dataset, 0)
    samples = Samples(recipe.dataset, recipe.source, {0: own}, [0] * models, device)
    population = populate(recipe, members, samples.inputs)
    steps = Steps(population, samples, recipe.batch_size, 1, _standing)
    steps.begin(1)
    with steps.on_stream():
        for _ in range(steps.first):
            steps.next()
        wait_for(device)
        start, taken = time.perf_counter(), 0
        while taken < 2 or (taken < 20 and time.perf_counter() - start < 0.1):
            steps.next()
            taken += 1
        wait_for(device)
    return (time.perf_counter() - start) / taken


def _standing(*_: int) -> float:
    """A schedule under which nothing is learned."""
    return 0.0


def _memory_holds(recipe: Recipe, free: float) -> Callable[[int], bool]:
    """Whether so many models fit: parameters, gradients and two moments of each, and as much again."""
    needed = 8 * sum(leaf.numel() * leaf.element_size() for leaf in recipe.model().parameters())
    return lambda models: models * needed < MEMORY_SHARE * free
