"""Settings from TPE: deterministic, inside their ranges, better where earlier trials were better."""

import math
import random

import pytest

from hpo.search_space import linear_range, log_range
from hpo.space import split_space
from hpo.storage.ledger import FinishedTrial, Setting
from hpo.worker.sampler import sample

SPACE = split_space({"learning_rate": log_range(1e-4, 1e-1), "lambda": linear_range(0.0, 2.0)})


def finished(count: int = 20) -> list[FinishedTrial]:
    """Trials whose value falls with the distance from learning rate 0.01."""
    rng = random.Random(0)
    settings = [{"learning_rate": 10 ** rng.uniform(-4, -1), "lambda": rng.uniform(0, 2)} for _ in range(count)]
    return [FinishedTrial(setting, -abs(math.log10(setting["learning_rate"]) + 2)) for setting in settings]


def sampled_first(known: list[FinishedTrial], direction: str = "maximize") -> list[Setting]:
    """The first setting of ten seeds."""
    return [sample(SPACE, known, [], 1, direction, seed)[0] for seed in range(10)]


def mean_distance(settings: list[Setting], rate: float = 0.01) -> float:
    """Mean distance from a learning rate in powers of ten."""
    return sum(abs(math.log10(setting["learning_rate"] / rate)) for setting in settings) / len(settings)


def test_the_same_arguments_give_the_same_settings() -> None:
    pending = [{"learning_rate": 0.01, "lambda": 1.0}] * 20
    first = sample(SPACE, finished(), pending, 4, "maximize", seed=1)
    assert first == sample(SPACE, finished(), pending, 4, "maximize", seed=1)
    assert first != sample(SPACE, finished(), pending, 4, "maximize", seed=2)
    assert first != sample(SPACE, finished(), [], 4, "maximize", seed=1)
    assert len({setting["learning_rate"] for setting in first}) == 4


@pytest.mark.parametrize("known", [0, 20])
def test_settings_lie_inside_the_ranges(known: int) -> None:
    for setting in sample(SPACE, finished(known), [], 50, "maximize", seed=0):
        assert list(setting) == ["learning_rate", "lambda"]
        assert 1e-4 <= setting["learning_rate"] <= 1e-1 and 0.0 <= setting["lambda"] <= 2.0


def test_fewer_startup_settings_are_the_first_of_more() -> None:
    assert sample(SPACE, [], [], 10, "maximize", 3)[:4] == sample(SPACE, [], [], 4, "maximize", 3)


def test_settings_move_to_where_values_were_good() -> None:
    guided = sampled_first(finished(40))
    assert mean_distance(guided) < 0.5 * mean_distance(sampled_first([]))
    losses = [trial._replace(value=-(trial.value or 0.0)) for trial in finished(40)]
    assert sampled_first(losses, "minimize") == guided


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_full_trials_count_more_than_pruned_ones_and_late_ones_more_than_early_ones(direction: str) -> None:
    rng = random.Random(0)

    def trials(rate: float, value: float, stopped: int | None, count: int = 4) -> list[FinishedTrial]:
        settings = [{"learning_rate": rate * rng.uniform(0.9, 1.1), "lambda": rng.uniform(0, 2)} for _ in range(count)]
        return [FinishedTrial(setting, value, stopped) for setting in settings]

    low, high = (0.9, 0.1) if direction == "minimize" else (0.1, 0.9)
    early = trials(2e-4, high, 3, 30)
    for known in (early + trials(1e-2, low, None), early + trials(1e-2, low, 9)):
        assert mean_distance(sampled_first(known, direction)) < 0.7


def test_a_trial_without_a_value_counts_as_the_worst() -> None:
    known = finished()
    worst = min(trial.value for trial in known if trial.value is not None)
    diverged = FinishedTrial({"learning_rate": 0.09, "lambda": 0.1}, None)
    expected = sample(SPACE, [*known, diverged._replace(value=worst)], [], 3, "maximize", 0)
    assert sample(SPACE, [*known, diverged], [], 3, "maximize", 0) == expected
    assert len(sample(SPACE, [diverged] * 12, [], 2, "minimize", 0)) == 2


def test_a_pruned_trial_without_a_value_is_the_worst_of_those_pruned_there() -> None:
    known = [trial._replace(stopped_epoch=3) for trial in finished()]
    lost = FinishedTrial({"learning_rate": 0.01, "lambda": 1.0}, None, 3)
    worse = sampled_first(known + [lost] * 20)
    assert mean_distance(worse) > mean_distance(sampled_first(known + [lost._replace(value=1.0)] * 20)) + 0.1


def test_nothing_tuned_gives_empty_settings() -> None:
    assert sample(split_space({}), [], [], 3, "maximize", 0) == [{}, {}, {}]
