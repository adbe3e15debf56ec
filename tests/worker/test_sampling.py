"""Settings from TPE: deterministic, inside their ranges, better where earlier trials were better."""

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
from optuna.distributions import BaseDistribution

from hpo.search_space import Range, linear_range, log_range
from hpo.storage.ledger import Tried
from hpo.worker import batched_tpe, sampler
from hpo.worker.sampler import ask_one_by_one, sample

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


def random_case(seed: int) -> tuple[dict[str, Range], list[tuple[dict[str, float], float | None]], list, str]:
    """Ranges, finished trials (equal values among them), pending settings and a direction."""
    rng = random.Random(seed)
    names = rng.sample(["learning_rate", "weight_decay", "zeta", "alpha"], rng.randint(1, 4))
    ranges = {
        name: log_range(10 ** rng.uniform(-6, -3), 10 ** rng.uniform(-2, 0)) if rng.random() < 0.5
        else linear_range(rng.uniform(-2, 0), rng.uniform(0.1, 2))
        for name in names
    }  # fmt: skip

    def setting() -> dict[str, float]:
        return {
            name: min(max(entry.low * (entry.high / entry.low) ** rng.random(), entry.low), entry.high) if entry.log
            else rng.uniform(entry.low, entry.high)
            for name, entry in ranges.items()
        }  # fmt: skip

    known = [
        (setting(), rng.choice([rng.random(), round(rng.random(), 1), None]))
        for _ in range(rng.choice([10, 11, 26, 70, 260]))
    ]
    return ranges, known, [setting() for _ in range(rng.choice([0, 1, 7]))], rng.choice(["maximize", "minimize"])


def one_by_one(ranges: dict[str, Range], known: list, pending: list, count: int, direction: str, seed: int) -> list:
    """What Optuna's own study gives."""
    spaces: dict[str, BaseDistribution] = {name: entry.distribution() for name, entry in ranges.items()}
    worst = (min if direction == "maximize" else max)(value for _, value in known if value is not None)
    valued = [Tried(setting, worst if value is None else value) for setting, value in known]
    found = ask_one_by_one(spaces, valued, pending, count, direction, seed)
    return [
        {name: min(max(setting[name], ranges[name].low), ranges[name].high) for name in ranges} for setting in found
    ]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of the batches that were asked the fast way."""
    asked: list[int] = []
    fast = batched_tpe.ask

    def ask(*arguments: Any) -> list[dict[str, float]]:
        asked.append(arguments[3])
        return fast(*arguments)

    assert sampler._batch_agrees()
    monkeypatch.setattr(batched_tpe, "ask", ask)
    yield asked
    sampler._batch_agrees.cache_clear()


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_is_what_optuna_gives_one_by_one(seed: int, batches: list[int]) -> None:
    ranges, known, pending, direction = random_case(seed)
    assert sample(ranges, known, pending, 5, direction, seed) == one_by_one(ranges, known, pending, 5, direction, seed)
    assert batches == [5]


def test_where_optuna_is_another_it_is_asked_one_by_one(batches: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    ranges, known, pending, direction = random_case(3)
    expected = one_by_one(ranges, known, pending, 3, direction, 1)

    def gone(*_: Any) -> list[dict[str, float]]:
        raise ImportError("no _ParzenEstimator")

    for other in (gone, lambda *_: [{"a": 0.0, "b": 0.5}] * 3):
        sampler._batch_agrees.cache_clear()
        monkeypatch.setattr(batched_tpe, "ask", other)
        assert not sampler._batch_agrees()
        assert sample(ranges, known, pending, 3, direction, 1) == expected
    assert batches == []


def test_a_value_outside_its_range_is_drawn_again(batches: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    ranges, known, pending, direction = random_case(3)
    outside = {name: entry.high + 1e-9 for name, entry in ranges.items()}
    monkeypatch.setattr(batched_tpe, "ask", lambda *_: [outside])
    assert sample(ranges, known, pending, 1, direction, 1) == one_by_one(ranges, known, pending, 1, direction, 1)
    assert batches == []
