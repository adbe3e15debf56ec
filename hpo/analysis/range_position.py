"""Where the best trials lie in a hyperparameter's range, and whether more of them are at its end than by chance."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import bdtrc

from hpo.search_space import Bounds, Choice, Range, Side, Value

EDGE = 0.1  # the outer tenth of a range, on its scale
MIN_TRIALS = 6  # of a tuning run: of fewer, its best three are no selection
MAX_CHANCE = 0.01  # with which random settings may be said to be at an end, either of the two


class RangePosition(NamedTuple):
    """Where the values of one hyperparameter in the best trials lie in its range.

    Attributes:
        position: median position on the range's scale, 0 at its low and 1 at its high end.
        trials: the number of best trials. at_end: those of them in the outer tenth that is closer to `position`.
        end: the end at which more of the best trials lie than random settings do, if any.
        off: whether the regularizer has no effect at that end.
    """

    position: float
    trials: int
    at_end: int
    end: Side | None
    off: bool


def range_position(
    bounds: Bounds, searches: Sequence[Sequence[Value]], grid: Sequence[Value] = ()
) -> RangePosition | None:
    """The position of the best max(3, 10%) trials of every tuning run with at least six; None without such a run.

    Tuning runs have different seeds; the best tenth of all trials could come from the one with the easiest seed only.
    The trials are at an end if their median is in its outer tenth, and so many of them are in there that of random
    settings as many are with a probability of at most 0.5% (by the binomial distribution), 1% for both ends.

    Args:
        bounds: are ordered. searches: the values of the trials of each tuning run, best trial first.
        grid: the values that a grid tries, instead of random ones.
    """
    enough = [search for search in searches if len(search) >= MIN_TRIALS]
    best = [value for search in enough for value in search[: max(3, round(len(search) / 10))]]
    if not best:
        return None
    positions = np.array([bounds.position(value) for value in best])
    position = float(np.median(positions))
    side: Side = "low" if position < 0.5 else "high"
    outer = positions < EDGE if side == "low" else positions > 1 - EDGE
    at_end, share = int(outer.sum()), end_shares(bounds, grid)[side == "high"]
    is_outer = position < EDGE or position > 1 - EDGE
    end = side if is_outer and bdtrc(at_end - 1, len(best), share) <= MAX_CHANCE / 2 else None
    return RangePosition(position, len(best), at_end, end, end is not None and end == bounds.off)


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
