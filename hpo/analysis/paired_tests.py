"""Paired comparisons over seeds: intervals, tests and the smallest effect that could have been found.

Every function takes plain arrays whose one axis is the seed. A difference is always rival − baseline, so its
sign does not depend on whether the metric is maximised.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv, ndtr, stdtr, stdtrit

Direction = Literal["maximize", "minimize"]
Numbers = NDArray[np.float64]

EXACT_SEEDS = 16  # up to here all 2ⁿ sign patterns are enumerated (65,536 at most)
SAMPLED_FLIPS = 20_000
ROUNDING = 1e-12  # differences smaller than this share of the largest value are rounding errors


class Interval(NamedTuple):
    """A confidence interval [low, high] in the units of its metric."""

    low: float
    high: float

    def inside(self, margin: float) -> bool:
        """Whether the whole interval lies strictly between −margin and margin."""
        return -margin < self.low and self.high < margin


class Summary(NamedTuple):
    """Mean, SD (ddof = 1) and 95% t interval of n values; SD and interval are NaN below n = 2."""

    n: int
    mean: float
    sd: float
    interval: Interval


class Comparison(NamedTuple):
    """What n paired differences (rival − baseline) say; NaN where n is too small to say it.

    Attributes:
        n: paired seeds. won, tied: seeds on which the rival is better, equal.
        mean, sd: of the differences, ddof = 1. interval: 95% t interval of the mean.
        equivalence_interval: t interval at 1 − 2α/m, the one equivalence is read from (90% at m = 1).
        p_t, p_flip: two-sided paired t and sign-flip tests. g: Hedges' g of the differences.
        mde: smallest true difference found with 80% power at α/m, given this SD. family: m.
        identical: whether all differences are equal up to rounding.
    """

    n: int
    won: int
    tied: int
    mean: float
    sd: float
    interval: Interval
    equivalence_interval: Interval
    p_t: float
    p_flip: float
    g: float
    mde: float
    family: int
    identical: bool


def standard_deviation(values: ArrayLike) -> float:
    """The sample SD (ddof = 1); NaN below two values."""
    numbers = np.asarray(values, dtype=float)
    return float(numbers.std(ddof=1)) if numbers.size > 1 else float("nan")


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """The t interval of the mean; NaN below two values."""
    numbers = np.asarray(values, dtype=float)
    if numbers.size < 2:
        return Interval(float("nan"), float("nan"))
    quantile = float(stdtrit(numbers.size - 1, (1 + confidence) / 2))
    half = quantile * standard_deviation(numbers) / np.sqrt(numbers.size)
    mean = float(numbers.mean())
    return Interval(mean - half, mean + half)


def summarise(values: ArrayLike) -> Summary:
    """Mean, SD and 95% interval of values that are not NaN; the mean of nothing is NaN."""
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    mean = float(numbers.mean()) if numbers.size else float("nan")
    return Summary(int(numbers.size), mean, standard_deviation(numbers), t_interval(numbers))


def nearly_equal(differences: ArrayLike) -> bool:
    """Whether all differences are the same number up to rounding errors, of values that are about 1 in size."""
    numbers = np.asarray(differences, dtype=float)
    return bool(numbers.size and np.ptp(numbers) <= 1e-12 * max(1.0, float(np.abs(numbers).max())))


def paired_t(differences: ArrayLike) -> float:
    """Two-sided p of the paired t test; 1 where all differences are equal, NaN below two."""
    numbers = np.asarray(differences, dtype=float)
    if numbers.size < 2:
        return float("nan")
    if nearly_equal(numbers):
        return 1.0
    statistic = abs(numbers.mean()) / (standard_deviation(numbers) / np.sqrt(numbers.size))
    return float(2 * stdtr(numbers.size - 1, -statistic))


def sign_flip(differences: ArrayLike) -> float:
    """Two-sided p of the sign-flip test of the mean, over all 2ⁿ patterns up to n = 16.

    Above that 20,000 patterns are drawn with a fixed seed (the observed one counts as one more).
    """
    numbers = np.asarray(differences, dtype=float)
    count = numbers.size
    if count < 1:
        return float("nan")
    observed = abs(numbers.sum())
    tolerance = 1e-12 * max(1.0, float(np.abs(numbers).sum()))
    if count <= EXACT_SEEDS:
        sums = np.zeros(1)
        for number in numbers:
            sums = np.concatenate([sums + number, sums - number])
        return float(np.mean(np.abs(sums) >= observed - tolerance))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(SAMPLED_FLIPS, count))
    reached = np.count_nonzero(np.abs(signs @ numbers) >= observed - tolerance)
    return float((reached + 1) / (SAMPLED_FLIPS + 1))


def holm(p_values: Sequence[float]) -> Numbers:
    """Holm's adjusted p-values over the family; a missing test (NaN) counts as one that cannot reject."""
    numbers = np.asarray(p_values, dtype=float)
    filled = np.where(np.isnan(numbers), 1.0, numbers)
    order = np.argsort(filled, kind="stable")
    steps = np.maximum.accumulate(filled[order] * (len(filled) - np.arange(len(filled))))
    adjusted = np.empty_like(filled)
    adjusted[order] = np.minimum(1.0, steps)
    return np.where(np.isnan(numbers), np.nan, adjusted)


def hedges_g(differences: ArrayLike) -> float:
    """Hedges' g of the paired differences: mean / SD with the small-sample factor 1 − 3/(4(n − 1) − 1)."""
    numbers = np.asarray(differences, dtype=float)
    if numbers.size < 2 or nearly_equal(numbers):
        return float("nan")
    return float((1 - 3 / (4 * (numbers.size - 1) - 1)) * numbers.mean() / standard_deviation(numbers))


def power(effect: float, n: int, alpha: float = 0.05) -> float:
    """The chance that the two-sided paired t test on n seeds finds a true mean of `effect` SDs.

    Integrates over the distribution of the sample SD: scipy's noncentral t is NaN for large noncentrality.
    """
    freedom = n - 1
    scale, weights = _sample_sds(freedom)
    critical = float(stdtrit(freedom, 1 - alpha / 2))
    shift = effect * np.sqrt(n)
    found = ndtr(shift - critical * scale) + ndtr(-shift - critical * scale)
    return float(weights @ found)


@cache
def _sample_sds(freedom: int) -> tuple[Numbers, Numbers]:
    """Sample SDs (in true SDs) at Gauss–Legendre nodes of their distribution, and the nodes' weights."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    return np.sqrt(2 * gammaincinv(freedom / 2, (nodes + 1) / 2) / freedom), weights / 2


def minimal_detectable_effect(sd: float, n: int, alpha: float = 0.05, target: float = 0.8) -> float:
    """The smallest true mean difference (units of `sd`) that n seeds find with probability `target`."""
    if n < 2 or not np.isfinite(sd):
        return float("nan")
    return _detectable_effect(n, alpha, target) * sd


@cache
def _detectable_effect(n: int, alpha: float, target: float) -> float:
    """`minimal_detectable_effect` in SDs."""
    low, high = 0.0, 1.0
    while power(high, n, alpha) < target:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, n, alpha) < target else (low, middle)
    return high


def compare(
    rival: Mapping[int, float],
    baseline: Mapping[int, float],
    direction: Direction = "maximize",
    alpha: float = 0.05,
    family: int = 1,
) -> Comparison:
    """Compares two configurations on the seeds that both have finished.

    Args:
        rival, baseline: seed → value; a seed that only one of them has is left out.
        direction: which sign of a difference counts as a seed won.
        family: number of configurations compared with the baseline (m).
    """
    seeds = sorted(set(rival) & set(baseline))
    size = max((abs(values[seed]) for values in (rival, baseline) for seed in seeds), default=0.0)
    differences = np.array([rival[seed] - baseline[seed] for seed in seeds], dtype=float)
    differences[np.abs(differences) <= ROUNDING * size] = 0.0
    # What counts as rounding is a matter of how large the values are; a power of two changes no other digit.
    scaled = np.ldexp(differences, -math.frexp(size)[1])
    gains = differences if direction == "maximize" else -differences
    summary = summarise(differences)
    return Comparison(
        n=len(seeds),
        won=int((gains > 0).sum()),
        tied=int((gains == 0).sum()),
        mean=0.0 if abs(summary.mean) <= ROUNDING * size else summary.mean,
        sd=summary.sd,
        interval=summary.interval,
        equivalence_interval=t_interval(differences, 1 - 2 * alpha / family),
        p_t=paired_t(scaled),
        p_flip=sign_flip(scaled),
        g=hedges_g(scaled),
        mde=minimal_detectable_effect(summary.sd, summary.n, alpha / family),
        family=family,
        identical=nearly_equal(scaled),
    )
