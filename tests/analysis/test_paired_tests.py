"""Paired statistics against slow, obvious second versions, scipy.stats, and numbers calculated by hand."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from hpo.analysis import paired_tests

DIFFERENCES = np.array([0.5, 0.7, 0.1, -0.7, 0.35])


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize(("confidence", "quantile"), [(0.95, 2.776445105), (0.90, 2.131846786)])
def test_t_interval_by_hand(confidence: float, quantile: float) -> None:
    mean = sum(DIFFERENCES) / 5
    sd = math.sqrt(sum((value - mean) ** 2 for value in DIFFERENCES) / 4)
    half = quantile * sd / math.sqrt(5)
    assert paired_tests.t_interval(DIFFERENCES, confidence) == pytest.approx((mean - half, mean + half), rel=1e-8)


def test_one_value_has_no_spread() -> None:
    assert paired_tests.standard_deviation([1.0, 2.0, 3.0, 4.0]) == pytest.approx(math.sqrt(5 / 3))
    assert math.isnan(paired_tests.standard_deviation([1.0]))
    assert all(math.isnan(limit) for limit in paired_tests.t_interval([1.0]))


@pytest.mark.parametrize("n", [2, 3, 5, 10, 100])
def test_p_and_interval_of_the_t_test_equal_scipys(n: int, generator: np.random.Generator) -> None:
    rival, baseline = generator.normal(size=(2, n))
    expected = scipy.stats.ttest_rel(rival, baseline)
    assert paired_tests.paired_t(rival - baseline) == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval(0.95)
    assert tuple(paired_tests.t_interval(rival - baseline)) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_paired_t_of_equal_differences_is_one() -> None:
    assert paired_tests.paired_t([0.25, 0.25, 0.25]) == 1.0
    assert paired_tests.paired_t([0.1 + 0.2, 0.3, 0.3]) == 1.0


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9])
def test_sign_flip_by_explicit_enumeration(n: int, generator: np.random.Generator) -> None:
    differences = np.round(generator.normal(0.3, 1, size=n), 2)
    observed = abs(differences.sum())
    patterns = list(itertools.product((-1, 1), repeat=n))
    sums = [sum(sign * value for sign, value in zip(pattern, differences, strict=True)) for pattern in patterns]
    extreme = sum(abs(value) >= observed - 1e-9 for value in sums)
    assert paired_tests.sign_flip(differences) == extreme / 2**n


def test_sign_flip_cannot_reject_below_six_seeds() -> None:
    assert paired_tests.sign_flip(np.arange(1.0, 6.0)) == 2 / 2**5 > 0.05
    assert paired_tests.sign_flip(np.arange(1.0, 7.0)) == 2 / 2**6 < 0.05


def test_sign_flip_of_many_seeds_is_near_the_t_test_and_repeatable(generator: np.random.Generator) -> None:
    differences = generator.normal(0.2, 1, size=40)
    assert paired_tests.sign_flip(differences) == pytest.approx(paired_tests.paired_t(differences), abs=0.02)
    assert paired_tests.sign_flip(differences) == paired_tests.sign_flip(differences)


def test_sign_flip_of_many_seeds_counts_the_observed_pattern() -> None:
    assert paired_tests.sign_flip(np.ones(30)) == 1 / (paired_tests.SAMPLED_FLIPS + 1)


def test_holm_by_hand_and_with_a_missing_test() -> None:
    assert paired_tests.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert paired_tests.holm([0.01, math.nan, 0.03]).tolist() == pytest.approx([0.03, math.nan, 0.06], nan_ok=True)
    assert paired_tests.holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_hedges_g_by_hand() -> None:
    expected = (1 - 3 / 15) * DIFFERENCES.mean() / DIFFERENCES.std(ddof=1)
    assert paired_tests.hedges_g(DIFFERENCES) == pytest.approx(expected)
    assert math.isnan(paired_tests.hedges_g([1.0, 1.0, 1.0]))


@pytest.mark.parametrize("n", [2, 3, 10, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_the_minimal_detectable_effect_has_a_power_of_80_percent(n: int, alpha: float) -> None:
    shift = paired_tests.minimal_detectable_effect(1.0, n, alpha) * math.sqrt(n)
    critical = scipy.stats.t.isf(alpha / 2, n - 1)
    # The other tail, far below one in a thousand, is NaN in scipy.
    assert scipy.stats.nct.sf(critical, n - 1, shift) == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize(("n", "expected"), [(3, 3.26), (5, 1.68), (10, 1.00), (20, 0.66), (30, 0.53)])
def test_minimal_detectable_effect_in_sds(n: int, expected: float) -> None:
    assert paired_tests.minimal_detectable_effect(1.0, n) == pytest.approx(expected, abs=0.006)
    assert paired_tests.minimal_detectable_effect(0.02, n) == pytest.approx(0.02 * expected, abs=2e-4)


def test_the_published_gnvr_comparison_finds_nothing() -> None:
    """47.82 ± 1.73 against 47.63 ± 1.50, n = 5: Δ = 0.19 [−2.2, 2.6], p = .86, if the seeds are independent."""
    sd = math.hypot(1.73, 1.50)
    shape = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    differences = 0.19 + sd * shape / shape.std(ddof=1)
    assert paired_tests.summarise(differences).mean == pytest.approx(0.19)
    assert paired_tests.paired_t(differences) == pytest.approx(0.86, abs=0.01)


def test_compare_pairs_by_seed_and_counts_wins_by_direction() -> None:
    rival = {1000: 0.5, 1001: 0.6, 1002: 0.7, 1003: 0.4, 1005: 0.9}
    baseline = {1003: 0.4, 1002: 0.6, 1001: 0.65, 1000: 0.7, 1009: 0.1}
    higher = paired_tests.compare(rival, baseline)
    lower = paired_tests.compare(rival, baseline, direction="minimize")
    assert (higher.n, higher.won, higher.tied) == (4, 1, 1)
    assert (lower.won, lower.tied) == (2, 1)
    assert higher.mean == lower.mean == pytest.approx(-0.15 / 4)
    assert higher.equivalence_interval == pytest.approx(paired_tests.t_interval([-0.2, -0.05, 0.1, 0.0], 0.9))


def test_the_family_widens_the_equivalence_interval_and_raises_the_mde() -> None:
    baseline = dict.fromkeys(range(5), 0.0)
    rival = dict(enumerate(DIFFERENCES))
    one, three = paired_tests.compare(rival, baseline), paired_tests.compare(rival, baseline, family=3)
    expected = paired_tests.t_interval(DIFFERENCES, 1 - 0.1 / 3)
    assert three.equivalence_interval == expected and three.equivalence_interval.low < one.equivalence_interval.low
    assert three.mde > one.mde and three.interval == one.interval


@pytest.mark.parametrize("exponent", [-60, -40, 0, 40])
def test_a_comparison_does_not_depend_on_the_unit(exponent: int) -> None:
    """What counts as a rounding error is relative to the magnitude of the values."""
    rival, baseline = {1: 0.4, 2: 0.5, 3: 0.9, 4: 0.3}, {1: 0.3, 2: 0.6, 3: 0.5, 4: 0.2}
    rounded = {1: 0.1 + 0.2, 2: 0.6, 3: 0.5, 4: 0.2}  # 0.1 + 0.2 differs from 0.3 by a rounding error
    for values, identical in ((rival, False), (rounded, True)):
        expected = paired_tests.compare(values, baseline)
        scaled = ({s: math.ldexp(v, exponent) for s, v in side.items()} for side in (values, baseline))
        comparison = paired_tests.compare(*scaled)
        assert comparison.identical == identical
        assert (comparison.p_t, comparison.p_flip) == (expected.p_t, expected.p_flip)
        assert math.ldexp(comparison.mean, -exponent) == expected.mean


def test_equal_differences_have_no_interval_and_detect_nothing() -> None:
    """Two accuracies of 120 samples in float32, whose differences are 7/120 up to rounding."""
    comparison = paired_tests.compare({1: 0.275, 2: 0.26666668}, {1: 0.21666667, 2: 0.20833333})
    assert comparison.identical and comparison.mean == pytest.approx(7 / 120)
    assert all(map(math.isnan, (*comparison.interval, *comparison.equivalence_interval, comparison.mde)))
    assert comparison.p_t == 1.0


def test_compare_without_shared_seeds_is_nan() -> None:
    comparison = paired_tests.compare({1: 0.5}, {2: 0.5})
    assert comparison.n == 0
    assert all(math.isnan(value) for value in (comparison.mean, comparison.p_t, comparison.mde))
