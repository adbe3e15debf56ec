"""Smoothness, memorisation and the best of so many trials, on small arrays computed by hand."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hpo.analysis import descriptors


def test_adjusted_memorisation() -> None:
    """Accuracy 55% of 10 classes: an error hits the given label by chance in 5% of cases."""
    assert descriptors.adjusted_memorisation(0.05, 0.55, 10) == pytest.approx(0)
    assert descriptors.adjusted_memorisation([1.0, 0.525], [0.55, 0.55], 10) == pytest.approx([1.0, 0.5])


def test_roughness_of_an_exponential_is_zero_and_of_noise_its_sd() -> None:
    time = np.arange(2000)
    noise = np.random.default_rng(0).normal(0, 0.1, time.size)
    assert descriptors.roughness(np.exp(-0.01 * time)) == pytest.approx(0, abs=1e-9)
    assert descriptors.roughness(np.exp(-0.01 * time + noise)) == pytest.approx(0.1, rel=0.05)
    by_hand = math.sqrt(sum((-2 * math.log(2)) ** 2 for _ in range(1)) / 6)
    assert descriptors.roughness([1.0, 2.0, 1.0]) == pytest.approx(by_hand)
    assert math.isnan(descriptors.roughness([1.0, 2.0]))


def test_upward_variation() -> None:
    assert descriptors.upward_variation([4.0, 2.0, 1.0]) == 0
    assert descriptors.upward_variation([4.0, 2.0, 4.0, 1.0]) == pytest.approx(0.5)
    assert math.isnan(descriptors.upward_variation([1.0, 2.0]))


def test_spikes_stand_above_the_median_of_the_five_epochs_before() -> None:
    assert descriptors.spikes([1, 1, 1, 1, 1, 1.2, 1.3, 1]) == 1
    assert descriptors.spikes([5, 1, 1, 1]) == 0


@pytest.mark.parametrize(("direction", "best"), [("maximize", max), ("minimize", min)])
@pytest.mark.parametrize("runs", [[[0.3, 0.9, 0.1, 0.5, 0.9]], [[0.3, 0.9, 0.1], [0.8, 0.2, 0.2, 0.7]]])
def test_the_best_of_random_trials_by_enumeration(direction: Any, best: Callable[..., float], runs: Any) -> None:
    """Every sequence of n draws from each tuning run's scores, each run with the same weight."""
    result = descriptors.best_of_random(runs, direction)
    assert len(result.expected) == min(map(len, runs))
    for n in range(1, len(result.expected) + 1):
        drawn = [[best(draws) for draws in itertools.product(scores, repeat=n)] for scores in runs]
        weights = [1 / (len(runs) * len(outcomes)) for outcomes in drawn for _ in outcomes]
        outcomes = [outcome for each in drawn for outcome in each]
        assert result.expected[n - 1] == pytest.approx(np.dot(weights, outcomes))
        ordered = sorted(zip(outcomes, weights, strict=True))
        for end, share in ((result.low, 0.025), (result.high, 0.975)):
            below = sum(weight for value, weight in ordered if value < end[n - 1] - 1e-12)
            above = sum(weight for value, weight in ordered if value > end[n - 1] + 1e-12)
            assert below <= share + 1e-9 and above <= 1 - share + 1e-9


def test_the_best_of_one_trial_is_the_mean_and_of_many_the_best() -> None:
    result = descriptors.best_of_random([[0.1, 0.2, 0.6] * 50], "maximize")
    assert result.expected[0] == pytest.approx(0.3) and result.expected[-1] == pytest.approx(0.6)
    assert (result.low[0], result.high[0]) == (0.1, 0.6) and result.low[-1] == 0.6


def test_the_best_so_far_follows_the_order_of_the_trials() -> None:
    scores = [0.3, 0.9, 0.1, 1.0]
    assert descriptors.best_so_far(scores, "maximize").tolist() == [0.3, 0.9, 0.9, 1.0]
    assert descriptors.best_so_far(scores, "minimize").tolist() == [0.3, 0.3, 0.1, 0.1]
