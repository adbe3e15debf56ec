"""Numbers that describe one run or one tuning run: smoothness, memorisation, the best of so many trials."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.analysis.paired_tests import Direction

SMALLEST_LOSS = 1e-12  # stands for a loss of exactly 0 in logarithms


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
    if numbers.size <= 5:
        return 0
    before = np.median(np.lib.stride_tricks.sliding_window_view(numbers[:-1], 5), axis=1)
    return int(np.count_nonzero(numbers[5:] > 1.25 * before))


def best_so_far(scores: ArrayLike, direction: Direction) -> NDArray[np.float64]:
    """The best of the first n scores [trial], for n = 1 … N: the history of one tuning run."""
    numbers = np.asarray(scores, dtype=float)
    return np.maximum.accumulate(numbers) if direction == "maximize" else np.minimum.accumulate(numbers)


class BestOfRandom(NamedTuple):
    """The best of n random trials, for n = 1 … N: its mean, and the interval that holds it with 95% probability."""

    expected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def best_of_random(runs: Sequence[ArrayLike], direction: Direction) -> BestOfRandom:
    """How good a random search of n trials is, by the trials of one or several (Dodge et al., arXiv:1909.03004).

    The best of n draws from the N scores of a tuning run is at most v₍ᵢ₎ (worst first) with probability (i/N)ⁿ. Runs,
    which have different seeds, are equally probable. It is not valid for a sampler that learns.

    Args:
        runs: the scores of every tuning run's trials, at least one each. n goes up to the trials of the shortest run.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    ascending = [np.sort(sign * np.asarray(scores, dtype=float)) for scores in runs]
    values = np.concatenate(ascending)
    order = np.argsort(values, kind="stable")
    rows = []
    for draws in range(1, min(map(len, ascending)) + 1):
        steps = [(np.arange(len(scores) + 1) / len(scores)) ** draws for scores in ascending]
        masses = np.concatenate([np.diff(step) for step in steps]) / len(ascending)
        cumulative = np.cumsum(masses[order]) + 1e-12  # a sum of exactly 2.5% may be rounded down
        places = np.minimum(np.searchsorted(cumulative, [0.025, 0.975]), len(values) - 1)
        ends = values[order][places].tolist()
        rows.append([float(masses @ values), *ends])
    expected, worst, best = (sign * np.array(rows)).T
    return BestOfRandom(expected, *((worst, best) if direction == "maximize" else (best, worst)))
