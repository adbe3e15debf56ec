"""Paired comparisons over seeds: intervals, tests and the smallest effect that could have been detected.

Every function takes plain arrays whose only axis is the seed. A difference is always rival − baseline, so its sign
does not depend on whether the metric is maximised. `scipy.stats` is not used: importing it takes a second, and its
t test and permutation test are 10 and 100 times slower than these, which `hpo bench verdicts` calls in thousands.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import nctdtrinc, stdtr, stdtrit

Direction = Literal["maximize", "minimize"]

ALPHA = 0.05  # the probability of a false "better" or "worse" in a family of tests, at most
MAX_EXACT_SEEDS = 16  # up to here all 2ⁿ sign patterns are enumerated (65,536 at most)
SAMPLED_FLIPS = 20_000
FLIPS_AT_ONCE = 100  # in memory; the draws do not depend on it
ROUNDING = 2e-7  # differences smaller than this share of the largest value are rounding errors of float32


class Interval(NamedTuple):
    """A confidence interval [low, high] in the units of its metric."""

    low: float
    high: float

    def lies_within(self, margin: float) -> bool:
        """Whether the whole interval lies strictly between −margin and margin."""
        return -margin < self.low and self.high < margin

    def lies_outside(self, margin: float) -> bool:
        """Whether no value of the interval lies strictly between −margin and margin."""
        return self.low >= margin or self.high <= -margin


class Summary(NamedTuple):
    """Mean, SD (ddof = 1) and 95% t interval of n values; SD and interval are NaN below n = 2."""

    n: int
    mean: float
    sd: float
    interval: Interval


class Comparison(NamedTuple):
    """Statistics of n paired differences (rival − baseline); NaN where n is too small for one.

    Attributes:
        n: paired seeds. won, tied: seeds on which the rival is better, equal.
        mean, sd: mean and SD (ddof = 1) of the differences. interval: 95% t interval of the mean.
        equivalence_interval: t interval at 1 − 2α/m, from which equivalence is read (90% at m = 1).
        p_t, p_flip: two-sided paired t and sign-flip tests. g: Hedges' g of the differences.
        mde: smallest true difference detected with 80% power at α/m, given this SD. family: m.
        identical: whether all differences are equal up to rounding; they then say nothing about the variation over
            seeds, so that there is no interval and no mde.
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
    """Mean, SD and 95% interval of the finite values; the mean of no value is NaN."""
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    mean = float(numbers.mean()) if numbers.size else float("nan")
    return Summary(int(numbers.size), mean, standard_deviation(numbers), t_interval(numbers))


def nearly_equal(differences: ArrayLike) -> bool:
    """Whether all differences are equal up to rounding errors of values with a magnitude of about 1."""
    numbers = np.asarray(differences, dtype=float)
    return bool(numbers.size and np.ptp(numbers) <= ROUNDING * max(1.0, float(np.abs(numbers).max())))


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

    Above that, 20,000 patterns are drawn with a fixed seed, and the observed one is added to them.
    """
    numbers = np.asarray(differences, dtype=float)
    count = numbers.size
    if count < 1:
        return float("nan")
    tolerance = ROUNDING * max(1.0, float(np.abs(numbers).sum()))
    threshold = abs(numbers.sum()) - tolerance
    if count <= MAX_EXACT_SEEDS:
        sums = np.zeros(1)
        for number in numbers:
            sums = np.concatenate([sums + number, sums - number])
        return float(np.mean(np.abs(sums) >= threshold))
    random, extreme = np.random.default_rng(0), 0
    for start in range(0, SAMPLED_FLIPS, FLIPS_AT_ONCE):
        signs = 2.0 * random.integers(0, 2, size=(min(FLIPS_AT_ONCE, SAMPLED_FLIPS - start), count)) - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ numbers) >= threshold))
    return float((extreme + 1) / (SAMPLED_FLIPS + 1))


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
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


def minimal_detectable_effect(sd: float, n: int, alpha: float = ALPHA, power: float = 0.8) -> float:
    """The smallest true mean difference, in the units of `sd`, that n seeds detect with probability `power`.

    The two-sided paired t test detects it: its statistic is noncentral t, with noncentrality difference / (sd/√n).
    """
    if n < 2 or not np.isfinite(sd):
        return float("nan")
    critical = stdtrit(n - 1, 1 - alpha / 2)
    return float(nctdtrinc(n - 1, 1 - power, critical)) / math.sqrt(n) * sd


def paired_differences(rival: ArrayLike, baseline: ArrayLike) -> NDArray[np.float64]:
    """Differences rival − baseline [n] of values [n]; 0 where they are rounding errors."""
    first, second = np.asarray(rival, dtype=float), np.asarray(baseline, dtype=float)
    differences = first - second
    differences[np.abs(differences) <= ROUNDING * np.abs([first, second]).max(initial=0.0)] = 0.0
    return differences


def compare(
    rival: Mapping[int, float],
    baseline: Mapping[int, float],
    direction: Direction = "maximize",
    alpha: float = ALPHA,
    family: int = 1,
) -> Comparison:
    """Compares two configurations on the seeds that both have finished.

    Args:
        rival, baseline: seed → value; a seed that only one of them has is left out.
        direction: which sign of a difference counts as a seed won.
        family: number of configurations compared with the baseline (m).
    """
    seeds = sorted(set(rival) & set(baseline))
    magnitude = max((abs(values[seed]) for values in (rival, baseline) for seed in seeds), default=0.0)
    differences = paired_differences([rival[seed] for seed in seeds], [baseline[seed] for seed in seeds])
    # Rounding errors are relative to the magnitude of the values; a power of two scales without further rounding.
    scaled = np.ldexp(differences, -math.frexp(magnitude)[1])
    gains = differences if direction == "maximize" else -differences
    summary, identical = summarise(differences), nearly_equal(scaled)
    unknown = Interval(math.nan, math.nan)
    return Comparison(
        n=len(seeds),
        won=int((gains > 0).sum()),
        tied=int((gains == 0).sum()),
        mean=0.0 if abs(summary.mean) <= ROUNDING * magnitude else summary.mean,
        sd=summary.sd,
        interval=unknown if identical else summary.interval,
        equivalence_interval=unknown if identical else t_interval(differences, 1 - 2 * alpha / family),
        p_t=paired_t(scaled),
        p_flip=sign_flip(scaled),
        g=hedges_g(scaled),
        mde=math.nan if identical else minimal_detectable_effect(summary.sd, summary.n, alpha / family),
        family=family,
        identical=identical,
    )
