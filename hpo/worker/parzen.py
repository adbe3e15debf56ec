"""The Parzen estimator of Optuna's TPE (Watanabe 2023, arXiv:2304.11127) on arrays, fast for very many trials."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import ndtr

BLOCK = 1024  # kernels that are evaluated at once: what the processor's cache can hold
NEGLIGIBLE = -700.0  # exp of it changes no sum of densities of which one is 1
Add = Callable[[np.ndarray, slice], None]  # adds the log densities of a slice of kernels at c points to logs [c, m]
EQUAL_WEIGHTS = 25  # the newest trials count in full, earlier ones the less the older they are


def log_density(points: np.ndarray, observed: np.ndarray, distributions: Sequence[BaseDistribution]) -> np.ndarray:
    """The log density [c] at c points of the mixture with a kernel at each of n observations, and a broad one.

    It equals what Optuna's TPESampler computes, up to rounding.

    Args:
        points: [c, d]. observed: [n, d], in the order of the trials, on which their weights depend.
        distributions: of the d hyperparameters.
    """
    additions = [
        _choices(points[:, column], observed[:, column], entry)
        if isinstance(entry, CategoricalDistribution)
        else _numbers(points[:, column], observed[:, column], entry)
        for column, entry in enumerate(distributions)
    ]
    log_weights = np.log(_weights(len(observed)))
    peaks, sums = np.full(len(points), -math.inf), np.zeros(len(points))
    for start in range(0, len(log_weights), BLOCK):
        part = slice(start, start + BLOCK)
        logs = np.tile(log_weights[part], (len(points), 1))
        for add in additions:
            add(logs, part)
        peak = np.maximum(peaks, logs.max(axis=1))
        logs -= peak[:, None]
        np.maximum(logs, NEGLIGIBLE, out=logs)  # exp takes ten times as long where its result underflows
        sums = sums * np.exp(peaks - peak) + np.exp(logs, out=logs).sum(axis=1)
        peaks = peak
    return np.log(sums) + peaks


def _weights(count: int) -> np.ndarray:
    """Of the kernels of `count` trials, oldest first, and of the broad one; their sum is 1."""
    ramp = np.linspace(1 / count, 1.0, count - EQUAL_WEIGHTS) if count > EQUAL_WEIGHTS else np.empty(0)
    weights = np.concatenate([ramp, np.ones(min(count, EQUAL_WEIGHTS) + 1)])
    return weights / weights.sum()


def _choices(points: np.ndarray, observed: np.ndarray, entry: CategoricalDistribution) -> Add:
    """Each kernel prefers its observed choice; the broad one prefers none."""
    choices, count = len(entry.choices), len(observed) + 1
    total = 1 + choices / count if len(observed) else 1.0
    same, other = math.log((1 + 1 / count) / total), math.log(1 / count / total)
    table = np.full((choices, choices + 1), other)  # point × observation
    np.fill_diagonal(table, same)
    table[:, -1] = -math.log(choices)
    rows, numbers = table[points.astype(int)], np.append(observed, choices).astype(int)

    def add(logs: np.ndarray, part: slice) -> None:
        logs += rows[:, numbers[part]]

    return add


def _numbers(points: np.ndarray, observed: np.ndarray, entry: BaseDistribution) -> Add:
    """Normal distributions, truncated to the range; those of integers are summed over each number's neighbourhood."""
    assert isinstance(entry, FloatDistribution | IntDistribution)
    half = 0.0 if entry.step is None else entry.step / 2
    scale = np.log if entry.log else np.asarray
    low, high = float(scale(entry.low - half)), float(scale(entry.high + half))
    means = scale(observed)
    sigmas = np.append(_sigmas(means, low, high), high - low)
    means = np.append(means, (low + high) / 2)
    norms = np.log(_mass((low - means) / sigmas, (high - means) / sigmas))
    if half:
        return _integers(scale(points - half), scale(points + half), means, sigmas, norms)
    places = scale(points)
    places = np.where((places < low) | (places > high), math.inf, places)  # beyond the range by a rounding error
    return _reals(places, means, sigmas, norms)


def _reals(places: np.ndarray, means: np.ndarray, sigmas: np.ndarray, norms: np.ndarray) -> Add:
    norms = norms + np.log(sigmas) + math.log(2 * math.pi) / 2
    factors, column = math.sqrt(0.5) / sigmas, places[:, None]

    def add(logs: np.ndarray, part: slice) -> None:
        distances = column - means[part]
        distances *= factors[part]
        distances *= distances
        logs -= distances
        logs -= norms[part]

    return add


def _integers(left: np.ndarray, right: np.ndarray, means: np.ndarray, sigmas: np.ndarray, norms: np.ndarray) -> Add:
    pairs, inverse = np.unique(means + 1j * sigmas, return_inverse=True)
    with np.errstate(divide="ignore"):  # the logarithm of 0 far from a mean
        table = np.log(_mass(*((end[:, None] - pairs.real) / pairs.imag for end in (left, right))))

    def add(logs: np.ndarray, part: slice) -> None:
        logs += table[:, inverse[part]]
        logs -= norms[part]

    return add


def _sigmas(means: np.ndarray, low: float, high: float) -> np.ndarray:
    """Each kernel reaches the farther of its two neighbours, and at least a hundredth of the range."""
    order = np.argsort(means)  # of equal means the one that Optuna's call of the same function gives
    gaps = np.diff(np.concatenate([[low], means[order], [high]]))
    reach = np.maximum(gaps[:-1], gaps[1:])
    if len(means) > 1:  # the ends of the range are no neighbours
        reach[0], reach[-1] = gaps[1], gaps[-2]
    sigmas = np.empty_like(means)
    sigmas[order] = reach
    return np.clip(sigmas, (high - low) / min(100.0, len(means) + 2), high - low)


def _mass(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The probability of a standard normal variable in [left, right], accurate in both tails."""
    flip = left > 0
    ends = np.where(flip, -left, right), np.where(flip, -right, left)
    return ndtr(ends[0]) - ndtr(ends[1])
