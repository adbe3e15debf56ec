"""Numbers that describe one run or one search: smoothness, memorisation, place in the range."""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.analysis.paired_tests import Direction
from hpo.search_space import Range, Side

SMALLEST_LOSS = 1e-12  # what a loss of exactly 0 is drawn as on a log axis
EDGE = 0.1  # the outer tenth of a range, on its own scale


class RangePosition(NamedTuple):
    """Where the best trials of one hyperparameter lie.

    Attributes:
        position: median place on the range's own scale, 0 at its low and 1 at its high end.
        trials: how many of the best trials it is the median of.
        end: the end it is close to, if any. off: whether that is where the regularizer has no effect.
    """

    position: float
    trials: int
    end: Side | None
    off: bool


def range_position(bounds: Range, *searches: Sequence[float]) -> RangePosition:
    """The place of the values of the best max(3, 10%) finished trials of every search, each sorted best first.

    Searches have seeds of their own, and an easier one would fill the best tenth of all trials alone.
    """
    best = [value for search in searches for value in search[: max(3, round(len(search) / 10))]]
    position = float(np.median([bounds.position(value) for value in best]))
    end: Side | None = "low" if position < EDGE else "high" if position > 1 - EDGE else None
    return RangePosition(position, len(best), end, end is not None and end == bounds.off)


def adjusted_memorisation(fitted: ArrayLike, accuracy: ArrayLike, classes: int) -> NDArray[np.float64]:
    """The share of flipped labels fitted beyond what errors alone would hit, for every seed.

    (MEM − b)/(1 − b) with b = (1 − test accuracy)/(C − 1), the chance that an error hits the given label.
    """
    chance = (1 - np.asarray(accuracy, dtype=float)) / (classes - 1)
    return (np.asarray(fitted, dtype=float) - chance) / (1 - chance)


def roughness(loss: ArrayLike) -> float:
    """√(mean (Δ²ℓ)²/6) of ℓ = log loss [epoch]: SD of white noise around a straight line; NaN below three."""
    steps = np.diff(np.log(np.asarray(loss, dtype=float)), n=2)
    return float(np.sqrt(np.mean(steps**2) / 6)) if steps.size else float("nan")


def upward_variation(loss: ArrayLike) -> float:
    """Σ max(0, Δℓ)/(ℓ₀ − min ℓ) of ℓ = log loss [epoch]: ascents by the whole descent; NaN without one."""
    logs = np.log(np.asarray(loss, dtype=float))
    descent = float(logs[0] - logs.min()) if logs.size else 0.0
    return float(np.maximum(0, np.diff(logs)).sum() / descent) if descent > 0 else float("nan")


def spikes(loss: ArrayLike) -> int:
    """Number of epochs whose loss lies above 1.25 × the median of the five epochs before."""
    numbers = np.asarray(loss, dtype=float)
    return sum(bool(numbers[i] > 1.25 * np.median(numbers[i - 5 : i])) for i in range(5, numbers.size))


def best_so_far(scores: ArrayLike, direction: Direction) -> NDArray[np.float64]:
    """The best of the first n scores [trial], for n = 1 … N: the course of one search."""
    numbers = np.asarray(scores, dtype=float)
    return np.maximum.accumulate(numbers) if direction == "maximize" else np.minimum.accumulate(numbers)


def expected_best(scores: ArrayLike, direction: Direction) -> NDArray[np.float64]:
    """The mean best of n of the N scores of a random search, over all choices of n, for n = 1 … N.

    Σ_{i≥n} C(i−1, n−1) v₍ᵢ₎ / C(N, n), v sorted from the worst; it says nothing about a search that learns.
    """
    numbers = np.sort(np.asarray(scores, dtype=float))
    worst_first = numbers if direction == "maximize" else numbers[::-1]
    total = worst_first.size
    best = np.empty(total)
    for count in range(1, total + 1):
        weights = np.array([comb(place - 1, count - 1) / comb(total, count) for place in range(1, total + 1)])
        best[count - 1] = weights @ worst_first
    return best
