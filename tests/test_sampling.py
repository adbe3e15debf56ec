"""Settings from TPE: deterministic, inside their ranges, better where earlier trials were better."""

import math
import random

import pytest

from hpo.sampling import sample
from hpo.space import linear_range, log_range

RANGES = {"learning_rate": log_range(1e-4, 1e-1), "lambda": linear_range(0.0, 2.0)}


def finished(count: int = 20) -> list[tuple[dict[str, float], float | None]]:
    """Trials whose value falls with the distance from learning rate 0.01."""
    rng = random.Random(0)
    settings = [{"learning_rate": 10 ** rng.uniform(-4, -1), "lambda": rng.uniform(0, 2)} for _ in range(count)]
    return [(setting, -abs(math.log10(setting["learning_rate"]) + 2)) for setting in settings]


def test_the_same_for_the_same_arguments() -> None:
    pending = [{"learning_rate": 0.003, "lambda": 1.0}]
    first = sample(RANGES, finished(), pending, 4, "maximize", seed=1)
    assert first == sample(RANGES, finished(), pending, 4, "maximize", seed=1)
    assert first != sample(RANGES, finished(), pending, 4, "maximize", seed=2)
    assert len({setting["learning_rate"] for setting in first}) == 4


@pytest.mark.parametrize("known", [0, 20])
def test_inside_the_ranges(known: int) -> None:
    for setting in sample(RANGES, finished(known), [], 50, "maximize", seed=0):
        assert list(setting) == ["learning_rate", "lambda"]
        assert 1e-4 <= setting["learning_rate"] <= 1e-1 and 0.0 <= setting["lambda"] <= 2.0


def test_fewer_startup_settings_are_the_first_of_more() -> None:
    assert sample(RANGES, [], [], 10, "maximize", 3)[:4] == sample(RANGES, [], [], 4, "maximize", 3)


def test_settings_move_to_where_values_were_good() -> None:
    def mean_distance(settings: list[dict[str, float]]) -> float:
        return sum(abs(math.log10(setting["learning_rate"]) + 2) for setting in settings) / len(settings)

    def asked(known: list[tuple[dict[str, float], float | None]], direction: str) -> list[dict[str, float]]:
        return [sample(RANGES, known, [], 1, direction, seed)[0] for seed in range(10)]

    guided = asked(finished(40), "maximize")
    assert mean_distance(guided) < 0.5 * mean_distance(asked([], "maximize"))
    losses = [(setting, -value) for setting, value in finished(40) if value is not None]
    assert asked(losses, "minimize") == guided


def test_a_run_without_a_value_counts_as_the_worst() -> None:
    known = finished()
    worst = min(value for _, value in known if value is not None)
    lost: list[tuple[dict[str, float], float | None]] = [({"learning_rate": 0.09, "lambda": 0.1}, None)]
    filled: list[tuple[dict[str, float], float | None]] = [({"learning_rate": 0.09, "lambda": 0.1}, worst)]
    assert sample(RANGES, known + lost, [], 3, "maximize", 0) == sample(RANGES, known + filled, [], 3, "maximize", 0)
    assert len(sample(RANGES, lost * 12, [], 2, "minimize", 0)) == 2


def test_nothing_tuned_gives_empty_settings() -> None:
    assert sample({}, [], [], 3, "maximize", 0) == [{}, {}, {}]
