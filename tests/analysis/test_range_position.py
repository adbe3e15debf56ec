"""Positions in a range, by hand, and how often random settings are said to be at its end."""

import math

import numpy as np
import pytest
from scipy import stats

from hpo.analysis.range_position import EDGE, MAX_CHANCE, RangePosition, end_shares, range_position
from hpo.search_space import Bounds, Value, choice, integers, linear_range, log_range

KINDS: dict[str, Bounds] = {
    "linear": linear_range(0, 1), "log": log_range(1e-4, 1e-2), "two numbers": integers(1, 2),
    "few numbers": integers(1, 4), "numbers": integers(0, 40), "log numbers": integers(1, 64, log=True),
    "three choices": choice(32, 64, 128), "eleven choices": choice(*range(11)),
}  # fmt: skip


def position_of(bounds: Bounds, *searches: list[Value], grid: tuple[Value, ...] = ()) -> RangePosition:
    """The position, where there is one."""
    position = range_position(bounds, searches, grid)
    assert position is not None
    return position


def draw(bounds: Bounds, generator: np.random.Generator, count: int) -> list[Value]:
    """Values as Optuna draws them: uniformly on the scale, whole numbers from a range wider by a half on both sides."""
    distribution = bounds.distribution()
    if hasattr(distribution, "choices"):
        return [distribution.choices[index] for index in generator.integers(len(distribution.choices), size=count)]
    wider = 0.5 if getattr(bounds, "integer", False) else 0.0
    low, high = distribution.low - wider, distribution.high + wider
    if distribution.log:
        drawn = np.exp(generator.uniform(math.log(low), math.log(high), size=count))
    else:
        drawn = generator.uniform(low, high, size=count)
    return [round(value) for value in drawn] if wider else drawn.tolist()


def test_the_position_is_the_median_of_the_best_on_the_ranges_own_scale() -> None:
    position = position_of(log_range(1e-4, 1e-2), [1e-3, 1e-2, 1e-4, *[5e-3] * 20])
    assert position.position == pytest.approx(0.5)
    assert position[1:] == (3, 1, None, False)


@pytest.mark.parametrize(("finished", "taken"), [(6, 3), (30, 3), (40, 4), (100, 10)])
def test_the_best_tenth_but_at_least_three_once_there_are_six(finished: int, taken: int) -> None:
    assert position_of(linear_range(0, 1), [0.5] * finished).trials == taken


def test_fewer_than_six_trials_have_no_position() -> None:
    assert range_position(linear_range(0, 1), [[0.0] * 5, [0.0] * 3]) is None
    assert position_of(linear_range(0, 1), [0.0] * 5, [1.0] * 6)[:2] == (1.0, 3)


def test_every_search_has_its_own_best_trials() -> None:
    """The second search is the easier one: of all twenty trials its own are the best."""
    position = position_of(linear_range(0, 1), [0.2] * 10, [0.9] * 10, [0.3, 0.25, 0.2, *[1.0] * 3])
    assert (position.position, position.trials) == (pytest.approx(0.25), 9)


@pytest.mark.parametrize(
    ("off", "value", "end", "is_off"),
    [("low", 0.05, "low", True), ("high", 0.05, "low", False), (None, 0.95, "high", False), ("low", 0.5, None, False)],
)
def test_ends_of_the_range(off: str, value: float, end: str, is_off: bool) -> None:
    position = position_of(linear_range(0, 1, off=off), [value] * 6)  # type: ignore[arg-type]
    assert (position.end, position.off) == (end, is_off)


def test_of_three_trials_all_have_to_be_at_the_end_and_of_four_three() -> None:
    for searches, end in (([0.05, 0.05, 0.5], None), ([0.05, 0.05, 0.09], "low")):
        assert position_of(linear_range(0, 1), searches + [0.5] * 20).end == end
    assert position_of(linear_range(0, 1), [0.05, 0.5, 0.05, 0.09] + [0.5] * 36).end == "low"
    assert position_of(linear_range(0, 1), [0.95, 0.5, 0.95, 0.5] + [0.5] * 36).end is None


def test_a_choice_of_three_is_at_an_end_only_where_chance_would_not_do_it() -> None:
    """A third of random values are at either end: three of three would be so in 2 · 1/27 of cases."""
    sizes, best = choice(32, 64, 128), [128] * 3 + [32] * 3
    assert position_of(sizes, best).end is None
    assert position_of(sizes, best, best).end == "high", "six of six: 2 / 729"
    assert position_of(sizes, [128, 128, 64, *best[3:]], best, best).end == "high", "eight of nine: 2 · 19 / 19,683"
    assert position_of(sizes, *[[128, 128, 64, 64, 64, 64]] * 3).end is None


def test_on_a_grid_its_own_values_are_the_random_ones() -> None:
    bounds, rates = log_range(1e-4, 1e-2), (1e-4, 1e-3, 1e-2)
    assert position_of(bounds, [1e-4] * 6).end == "low"
    assert position_of(bounds, [1e-4] * 6, grid=rates).end is None
    assert end_shares(bounds, rates) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert end_shares(bounds, (1e-3, 2e-3)) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_share_of_random_values_at_an_end_by_drawing_them(kind: str) -> None:
    bounds, count = KINDS[kind], 20_000
    positions = np.array([bounds.position(value) for value in draw(bounds, np.random.default_rng(0), count)])
    for share, found in zip(end_shares(bounds), ((positions < EDGE).sum(), (positions > 1 - EDGE).sum()), strict=True):
        assert stats.binomtest(int(found), count, share).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("runs", "trials"), [(1, 6), (1, 20), (1, 40), (1, 100), (3, 20), (10, 40)])
def test_random_settings_are_at_an_end_in_at_most_one_of_a_hundred_studies(kind: str, runs: int, trials: int) -> None:
    """Trials whose order says nothing about the hyperparameter: the best are random ones."""
    bounds, generator, studies = KINDS[kind], np.random.default_rng(1), 400
    values = draw(bounds, generator, studies * runs * trials)
    found = 0
    for number in range(studies):
        first = number * runs * trials
        searches = [values[first + run * trials :][:trials] for run in range(runs)]
        found += position_of(bounds, *searches).end is not None
    assert found <= stats.binom.ppf(0.999, studies, MAX_CHANCE)


@pytest.mark.parametrize(("runs", "trials", "least"), [(1, 40, 0.7), (3, 20, 0.6), (3, 40, 0.98), (10, 40, 1.0)])
def test_a_best_value_at_the_end_is_found(runs: int, trials: int, least: float) -> None:
    """Random search where the score rises up to the end of the range."""
    generator, studies = np.random.default_rng(2), 300
    tried = np.sort(generator.uniform(size=(studies, runs, trials)), axis=2)[:, :, ::-1]
    found = [position_of(linear_range(0, 1), *each.tolist()).end == "high" for each in tried]
    assert np.mean(found) >= least - 0.05
