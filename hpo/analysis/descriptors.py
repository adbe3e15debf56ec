"""Numbers that describe one run or one tuning run: smoothness, memorisation, position in a range."""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.analysis.paired_tests import Direction
from hpo.search_space import Bounds, Side

SMALLEST_LOSS = 1e-12  # stands for a loss of exactly 0 in logarithms
EDGE = 0.1  # the outer tenth of a range, on its scale


class RangePosition(NamedTuple):
    """Where the values of one hyperparameter in the best trials lie in its range.

    Attributes:
        position: median position on the range's scale, 0 at its low and 1 at its high end.
        trials: the number of best trials. end: the end that is close, if any.
        off: whether the regularizer has no effect at that end.
    """

    position: float
    trials: int
    end: Side | None
    off: bool


def range_position(bounds: Bounds, *searches: Sequence[float]) -> RangePosition:
    """The position of the values of the best max(3, 10%) finished trials of every tuning run; `bounds` are ordered.

    Tuning runs have different seeds; the best tenth of all trials could come from the one with the easiest seed only.

    Args:
        searches: the values of the trials of each tuning run, best trial first.
    """
    best = [value for search in searches for value in search[: max(3, round(len(search) / 10))]]
    position = float(np.median([bounds.position(value) for value in best]))
    end: Side | None = "low" if position < EDGE else "high" if position > 1 - EDGE else None
    return RangePosition(position, len(best), end, end is not None and end == bounds.off)


def adjusted_memorisation(fitted: ArrayLike, accuracy: ArrayLike, classes: int) -> NDArray[np.float64]:
    """The share of changed labels fitted, corrected for errors that hit them by chance, for every seed.

    (MEM − b)/(1 − b) with b = (1 − test accuracy)/(C − 1), the chance that an error hits the given label.
    """
    chance = (1 - np.asarray(accuracy, dtype=float)) / (classes - 1)
    return (np.asarray(fitted, dtype=float) - chance) / (1 - chance)


def roughness(loss: ArrayLike) -> float:
    """√(mean (Δ²ℓ)²/6) of ℓ = log loss [epoch]: the SD of white noise around a line; NaN below three epochs."""
    steps = np.diff(np.log(np.asarray(loss, dtype=float)), n=2)
    return float(np.sqrt(np.mean(steps**2) / 6)) if steps.size else float("nan")


def upward_variation(loss: ArrayLike) -> float:
    """Σ max(0, Δℓ)/(ℓ₀ − min ℓ) of ℓ = log loss [epoch]: all ascents relative to the descent; NaN without one."""
    logs = np.log(np.asarray(loss, dtype=float))
    descent = float(logs[0] - logs.min()) if logs.size else 0.0
    return float(np.maximum(0, np.diff(logs)).sum() / descent) if descent > 0 else float("nan")


def spikes(loss: ArrayLike) -> int:
    """Number of epochs whose loss lies above 1.25 × the median of the five epochs before."""
    numbers = np.asarray(loss, dtype=float)
    return sum(bool(numbers[i] > 1.25 * np.median(numbers[i - 5 : i])) for i in range(5, numbers.size))


def best_so_far(scores: ArrayLike, direction: Direction) -> NDArray[np.float64]:
    """The best of the first n scores [trial], for n = 1 … N: the history of one tuning run."""
    numbers = np.asarray(scores, dtype=float)
    return np.maximum.accumulate(numbers) if direction == "maximize" else np.minimum.accumulate(numbers)


def expected_best(scores: ArrayLike, direction: Direction) -> NDArray[np.float64]:
    """The mean best of n of the N scores of a random search, over all choices of n, for n = 1 … N.

    Σ_{i≥n} C(i−1, n−1) v₍ᵢ₎ / C(N, n), with v sorted worst first; not valid for a sampler that learns.
    """
    numbers = np.sort(np.asarray(scores, dtype=float))
    worst_first = numbers if direction == "maximize" else numbers[::-1]
    total = worst_first.size
    weights = [[comb(i - 1, n - 1) / comb(total, n) for i in range(1, total + 1)] for n in range(1, total + 1)]
    return np.array(weights).reshape(total, total) @ worst_first
