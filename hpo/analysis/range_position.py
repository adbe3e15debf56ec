"""Where the best trials lie in a hyperparameter's range, and whether more of them are at its end than by chance."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import bdtrc

from hpo.search_space import Bounds, Choice, Range, Side, Value

EDGE = 0.1  # the outer tenth of a range, on its scale
MIN_TRIALS = 6  # of a tuning run: of fewer, its best three are no selection
MIN_CHOSEN = 3  # chosen settings: two in the same tenth are no sign
MAX_CHANCE = 0.01  # with which random settings may be said to be at an end, either of the two
SIDES: tuple[Side, Side] = ("low", "high")


class RangePosition(NamedTuple):
    """Where the values of one hyperparameter in the best trials, and in the chosen settings, lie in its range.

    Attributes:
        position: median position of the best trials on the range's scale, 0 at its low and 1 at its high end.
        trials: the number of best trials. at_end: those of them in the outer tenth that is closer to `position`.
        end: the end at which more of the best trials lie than random settings do, if any.
        chosen: the number of settings that tuning runs chose. chosen_at: end → those of them in the outer tenth there.
        chosen_ends: the ends at which more of the chosen settings lie than random settings do.
        off: the end at which the regularizer has no effect, if any.
    """

    position: float
    trials: int
    at_end: int
    end: Side | None
    chosen: int
    chosen_at: dict[Side, int]
    chosen_ends: list[Side]
    off: Side | None


def range_position(
    bounds: Bounds, searches: Sequence[Sequence[Value]], chosen: Sequence[Value] = (), grid: Sequence[Value] = ()
) -> RangePosition | None:
    """The position of the best max(3, 10%) trials of every tuning run with at least six; None without such a run.

    Tuning runs have different seeds; the best tenth of all trials could come from the one with the easiest seed only.
    The trials are at an end if their median is in its outer tenth, and so many of them are in there that of random
    settings as many are with a probability of at most 0.5% (by the binomial distribution). The chosen settings are if
    at least three are there, and as many random ones would be with a probability that together with that of the first
    reason is at most 0.5%: 1% for both ends and reasons.

    Args:
        bounds: are ordered. searches: the values of the trials of each tuning run, best trial first.
        chosen: the values in the settings that the tuning runs chose. grid: the values that a grid tries, instead of
            random ones.
    """
    enough = [search for search in searches if len(search) >= MIN_TRIALS]
    best = [value for search in enough for value in search[: max(3, round(len(search) / 10))]]
    if not best:
        return None
    at, chosen_at = _at_ends(bounds, best), _at_ends(bounds, chosen)
    position = float(np.median([bounds.position(value) for value in best]))
    side = SIDES[position >= 0.5]
    is_outer = position < EDGE or position > 1 - EDGE
    end: Side | None = None
    chosen_ends: list[Side] = []
    for each, share in zip(SIDES, end_shares(bounds, grid), strict=True):
        enough_trials, chance = _smallest_count(len(best), share)
        if is_outer and each == side and at[side] >= enough_trials:
            end = side
        count, left = chosen_at[each], MAX_CHANCE / 2 - chance
        if count >= MIN_CHOSEN and bdtrc(count - 1, len(chosen), share) <= left:
            chosen_ends.append(each)
    return RangePosition(position, len(best), at[side], end, len(chosen), chosen_at, chosen_ends, bounds.off)


def _at_ends(bounds: Bounds, values: Sequence[Value]) -> dict[Side, int]:
    """The values in the outer tenth at either end."""
    positions = [bounds.position(value) for value in values]
    low, high = sum(position < EDGE for position in positions), sum(position > 1 - EDGE for position in positions)
    return {"low": low, "high": high}


def _smallest_count(trials: int, share: float) -> tuple[int, float]:
    """How many of so many best trials have to be at an end, at least half, and the chance of random ones to be."""
    counts = range((trials + 1) // 2, trials + 1)
    chances = ((count, float(bdtrc(count - 1, trials, share))) for count in counts)
    return next(((count, chance) for count, chance in chances if chance <= MAX_CHANCE / 2), (trials + 1, 0.0))


def end_shares(bounds: Bounds, grid: Sequence[Value] = ()) -> tuple[float, float]:
    """The probabilities that a random value of the range, or of a grid, is in its outer tenth at the low or high end.

    Optuna draws whole numbers from a range that is wider by half a number at each end, and rounds them.
    """
    if grid or isinstance(bounds, Choice):
        positions = np.array([bounds.position(value) for value in grid or bounds.samples()])
        return float(np.mean(positions < EDGE)), float(np.mean(positions > 1 - EDGE))
    if not bounds.integer:
        return EDGE, EDGE
    numbers = range(int(bounds.low), int(bounds.high) + 1)
    low = bisect_left(numbers, EDGE, key=bounds.position)
    high = len(numbers) - bisect_right(numbers, 1 - EDGE, key=bounds.position)
    wider = Range(bounds.low - 0.5, bounds.high + 0.5, bounds.log)
    return wider.position(wider.low + low), 1 - wider.position(wider.high - high)
