"""How many models are trained side by side: the decision on times made up, and one real measurement."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from hpo import MLP, Mnist1d, sizing
from hpo.optimizers import OPTIMIZERS
from hpo.regularizers import REGULARIZERS
from hpo.steps import Steps
from hpo.tracing import CHECKED_CALLS
from hpo.training import Recipe

CPU = torch.device("cpu")


def decide(seconds: Callable[[int], float], quick: float = 0.0, room: int = 10**6) -> tuple[int, list[int]]:
    asked: list[int] = []

    def ask(models: int) -> float:
        asked.append(models)
        return seconds(models)

    return sizing._choose(ask, 64, quick, lambda models: models <= room), asked


def test_it_grows_while_a_models_share_of_the_time_falls() -> None:
    assert decide(lambda models: 1 / models + 1) == (16, [1, 2, 4, 8, 16, 32])
    assert decide(lambda models: 1 / models)[0] == 64
    assert decide(lambda _: 1.0) == (1, [1, 2])
    assert decide(lambda models: float(models)) == (1, [1, 2])


def test_a_small_network_takes_all_there_is_without_further_measuring() -> None:
    assert decide(lambda _: 0.001, quick=0.005) == (64, [1])
    assert decide(lambda _: 0.001, quick=0.005, room=20) == (16, [1])


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_memory_is_the_limit(error: type[Exception]) -> None:
    def seconds(models: int) -> float:
        if models > 4:
            raise error
        return 1 / models

    assert decide(seconds) == (4, [1, 2, 4, 8])
    assert decide(lambda models: 1 / models, room=9) == (8, [1, 2, 4, 8])


class Clock:
    """Seconds that pass only while steps are taken: so many a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, a_step: float) -> None:
        self.steps, take = 0, Steps.next
        monkeypatch.setattr(sizing, "time", SimpleNamespace(perf_counter=lambda: self.steps * a_step))

        def next_step(steps: Steps) -> None:
            self.steps += 1
            take(steps)

        monkeypatch.setattr(Steps, "next", next_step)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["none", "gnvr"])
def test_a_real_step_is_timed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Mnist1d(samples=200)
    regularizer, optimizer = REGULARIZERS[name], OPTIMIZERS["adamw"]
    recipe = Recipe(data, data.load(), MLP((40, 8, 10)), regularizer, optimizer, epochs=1, batch_size=20)
    values = {"learning_rate": 1e-3, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    values |= dict.fromkeys(regularizer.hyperparameters, 0.1)
    assert sizing.time_step(recipe, values, 1, CPU) > 0
    assert sizing.choose_population(recipe, values, CPU, float("inf")) in (1, 2, 4, 8, 16, 32)
    assert sizing.choose_population(recipe, values, CPU, 0.0) == 1
    for a_step, timed in ((1.0, 2), (0.04, 3), (0.001, 20)):  # at least 2 steps, at most 20, 0.1 seconds in between
        with monkeypatch.context() as patch:
            clock = Clock(patch, a_step)
            assert sizing.time_step(recipe, values, 3, CPU) == pytest.approx(a_step)
        assert clock.steps == CHECKED_CALLS + timed  # the first are not timed
