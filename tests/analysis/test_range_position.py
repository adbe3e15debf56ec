"""Positions in a range, by hand, and how often random settings are said to be at its end."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from itertools import islice

import numpy as np
import pytest
from scipy import stats

from hpo.analysis.range_position import EDGE, MAX_CHANCE, RangePosition, end_shares, range_position
from hpo.search_space import Bounds, Side, Value, choice, integers, linear_range, log_range

KINDS: dict[str, Bounds] = {
    "linear": linear_range(0, 1), "log": log_range(1e-4, 1e-2), "two numbers": integers(1, 2),
    "few numbers": integers(1, 4), "numbers": integers(0, 40), "log numbers": integers(1, 64, log=True),
    "three choices": choice(32, 64, 128), "eleven choices": choice(*range(11)),
}  # fmt: skip


def position_of(
    bounds: Bounds, *searches: list[Value], chosen: Sequence[Value] = (), grid: tuple[Value, ...] = ()
) -> RangePosition:
    """The position, where there is one."""
    position = range_position(bounds, searches, chosen, grid)
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
    assert position[1:] == (3, 1, None, 0, {"low": 0, "high": 0}, [], None)


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


@pytest.mark.parametrize(("off", "value", "end"), [("low", 0.05, "low"), (None, 0.95, "high"), ("high", 0.5, None)])
def test_ends_of_the_range(off: Side | None, value: float, end: str | None) -> None:
    position = position_of(linear_range(0, 1, off=off), [value] * 6)
    assert (position.end, position.off) == (end, off)


@pytest.mark.parametrize(
    ("runs", "least"), [(1, None), (2, None), (3, 3), (4, 3), (5, 4), (8, 5), (9, 5), (10, 5), (20, 7)]
)
def test_as_many_chosen_settings_are_at_an_end_as_random_ones_seldom_are(runs: int, least: int | None) -> None:
    """The median of the best trials is elsewhere, and the counts are those of the binomial distribution."""
    searches = [[0.5] * 40] * runs
    for count in range(runs + 1):
        chosen = [0.95] * count + [0.5] * (runs - count)
        position = position_of(linear_range(0, 1), *searches, chosen=chosen)
        chance = sum(math.comb(runs, k) * 0.1**k * 0.9 ** (runs - k) for k in range(count, runs + 1))
        many = least is not None and count >= least
        assert many == (runs > 2 and chance <= 0.005)
        assert (position.end, position.chosen_ends) == (None, ["high"] * many)
        assert (position.chosen, position.chosen_at) == (runs, {"low": 0, "high": count})


def test_chosen_settings_may_be_at_both_ends() -> None:
    position = position_of(linear_range(0, 1), *[[0.5] * 40] * 10, chosen=[0.01] * 5 + [0.99] * 5)
    assert position.chosen_ends == ["low", "high"] and position.end is None


@pytest.mark.parametrize(
    ("bounds", "elsewhere", "value", "least"),
    [
        (choice(32, 64, 128), 64, 128, 9), (integers(1, 2), 1, 2, 10), (integers(1, 4), 2, 4, 7),
        (choice(*range(11)), 5, 10, 5), (linear_range(0, 1), 0.5, 1.0, 5),
    ],
)  # fmt: skip
def test_of_few_values_more_chosen_settings_have_to_be_equal(
    bounds: Bounds, elsewhere: Value, value: Value, least: int
) -> None:
    """Of ten settings, since a third of random ones have the same of three values."""
    counts = []
    for count in range(11):
        chosen = [value] * count + [elsewhere] * (10 - count)
        position = position_of(bounds, *[[elsewhere] * 40] * 10, chosen=chosen)
        counts += [count] if "high" in position.chosen_ends else []
    assert counts == list(range(least, 11))
    grid = (32, 64, 128)
    assert not position_of(linear_range(32, 128), [64] * 40, chosen=[128] * 4 + [64] * 6, grid=grid).chosen_ends


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
@pytest.mark.parametrize(
    ("runs", "trials"), [(1, 6), (1, 20), (1, 40), (1, 100), (3, 20), (4, 20), (5, 40), (8, 20), (10, 40), (20, 6)]
)
def test_random_settings_are_at_an_end_in_at_most_one_of_a_hundred_studies(kind: str, runs: int, trials: int) -> None:
    """For either reason; of trials whose order says nothing about the hyperparameter the best are random ones.

    The positions of the others play no role, so that only the best are drawn.
    """
    bounds, generator, studies, best = KINDS[kind], np.random.default_rng(1), 400, max(3, round(trials / 10))
    values = iter(draw(bounds, generator, studies * runs * best))
    found = 0
    for _ in range(studies):
        searches = [list(islice(values, best)) + [bounds.samples()[0]] * (trials - best) for _ in range(runs)]
        position = position_of(bounds, *searches, chosen=[search[0] for search in searches])
        assert position.trials == runs * best
        found += position.end is not None or bool(position.chosen_ends)
    assert found <= stats.binom.ppf(0.999, studies, MAX_CHANCE)


def is_at_high_end(chosen: int, others: int, runs: int, best: int, values: int) -> bool:
    """Whether so many chosen settings and so many of the other best trials are at an end for one reason or the other.

    Random settings have one of so many equally likely values, of which one is at the end.
    """
    grid = (1.0,) + (0.5,) * (values - 1)
    rest = [1.0] * others + [0.5] * (runs * (best - 1) - others)
    firsts = [1.0] * chosen + [0.5] * (runs - chosen)
    searches = [[first, *rest[number::runs], *[0.5] * (10 * best - best)] for number, first in enumerate(firsts)]
    position = position_of(linear_range(0, 1), *searches, chosen=firsts, grid=grid)
    assert position.trials == runs * best
    return position.end == "high" or "high" in position.chosen_ends


@pytest.mark.parametrize("values", [2, 3, 4, 5, 9, 10, 11])
@pytest.mark.parametrize("best", [3, 4])
def test_both_reasons_together_are_wrong_in_at_most_one_of_two_hundred_at_either_end(values: int, best: int) -> None:
    """The exact probability, summed over how many chosen settings and how many other best trials are at the end."""
    for runs in (3, 4, 5, 7, 8, 10):
        others = runs * (best - 1)
        chance = 0.0
        for chosen in range(runs + 1):
            reached = partial(is_at_high_end, chosen, runs=runs, best=best, values=values)
            least = bisect_left(range(others + 1), True, key=reached)
            chance += stats.binom.pmf(chosen, runs, 1 / values) * stats.binom.sf(least - 1, others, 1 / values)
        assert chance <= MAX_CHANCE / 2


@pytest.mark.parametrize(("runs", "trials", "least"), [(1, 40, 0.7), (3, 20, 0.6), (3, 40, 0.98), (10, 40, 1.0)])
def test_a_best_value_at_the_end_is_found(runs: int, trials: int, least: float) -> None:
    """Random search where the score rises up to the end of the range."""
    generator, studies = np.random.default_rng(2), 300
    tried = np.sort(generator.uniform(size=(studies, runs, trials)), axis=2)[:, :, ::-1]
    found = [position_of(linear_range(0, 1), *each.tolist(), chosen=each[:, 0].tolist()) for each in tried]
    assert np.mean([position.end == "high" or "high" in position.chosen_ends for position in found]) >= least - 0.05
