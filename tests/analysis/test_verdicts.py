"""The five rules on planted cases, and their error rates by simulation."""

import math

import numpy as np
import pytest

from hpo.analysis.paired_tests import Direction
from hpo.analysis.verdicts import Verdict, family_verdicts, prediction_outcome

NOISE = np.array([-1.2, 0.4, 0.9, -0.3, 0.6, -0.8, 1.1, -0.5, 0.2, -0.4])


def verdict_of(
    differences: np.ndarray,
    margin: float = 0.01,
    direction: Direction = "maximize",
    family: int = 1,
    tuning_runs: int = 10,
) -> Verdict:
    """The verdict on planted differences; the other rivals of the family differ by noise alone."""
    baseline = {1000 + seed: 0.5 + 0.01 * seed for seed in range(len(differences))}
    rival = {seed: baseline[seed] + value for seed, value in zip(baseline, differences, strict=True)}
    noise = {seed: value + 0.01 * NOISE[seed % 10] for seed, value in baseline.items()}
    pairs = {"rival": (rival, baseline), **{f"noise {i}": (noise, baseline) for i in range(1, family)}}
    return family_verdicts(pairs, margin, direction, tuning_runs=tuning_runs)["rival"]


def test_identical_on_every_seed() -> None:
    verdict = verdict_of(np.zeros(10))
    assert (verdict.word, verdict.rule, verdict.comparison.mean) == ("identical", 2, pytest.approx(0, abs=1e-12))
    assert verdict_of(np.full(10, 0.05)).rule == 2


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_seeds_give_no_verdict(n: int) -> None:
    verdict = verdict_of(0.1 + 0.001 * NOISE[:n])
    assert (verdict.word, verdict.rule) == ("no verdict", 1)
    assert verdict.comparison.n == n and verdict.reason


def test_unpaired_seeds_give_no_verdict() -> None:
    rival = {seed: 0.9 + 0.01 * seed for seed in range(5)}
    baseline = {seed + 4: 0.5 + 0.02 * seed for seed in range(5)}
    verdict = family_verdicts({"rival": (rival, baseline)}, 0.01)["rival"]
    assert verdict.rule == 1 and "not paired" in verdict.reason and verdict.comparison.n == 1


def test_better_and_worse_and_the_numbers_they_rest_on() -> None:
    better = verdict_of(0.05 + 0.01 * NOISE)
    worse = verdict_of(-0.05 + 0.01 * NOISE)
    assert (better.word, better.rule, better.firm) == ("better", 3, True)
    assert (worse.word, worse.rule, worse.firm) == ("worse", 3, True)
    assert better.p_holm == better.comparison.p_t < 0.05
    assert better.comparison.mean == pytest.approx(0.05 + 0.01 * NOISE.mean())
    assert not better.within_margin


def test_a_minimised_metric_turns_the_words_round() -> None:
    lower = verdict_of(-0.05 + 0.01 * NOISE, direction="minimize")
    higher = verdict_of(0.05 + 0.01 * NOISE, direction="minimize")
    assert (lower.word, higher.word) == ("better", "worse")
    assert lower.comparison.mean < 0 and lower.comparison.won == 10


@pytest.mark.parametrize(("n", "tentative"), [(3, True), (4, True), (5, False)])
def test_tentatively_below_five_seeds(n: int, tentative: bool) -> None:
    verdict = verdict_of(0.1 + 0.001 * NOISE[:n])
    assert (verdict.word, verdict.tentative, verdict.firm) == ("better", tentative, not tentative)


# Rule → ten differences that it decides.
RULES = {
    1: NOISE[:2], 2: np.zeros(10), 3: 0.05 + 0.01 * NOISE, 4: 0.001 * NOISE, 5: 0.03 * NOISE,
}  # fmt: skip


@pytest.mark.parametrize(("rule", "differences"), RULES.items())
def test_after_one_tuning_run_every_verdict_on_configurations_is_tentative(rule: int, differences: np.ndarray) -> None:
    one, ten = (verdict_of(differences, tuning_runs=runs) for runs in (1, 10))
    assert one.rule == ten.rule == rule and one.word == ten.word
    assert str(one.comparison) == str(ten.comparison) and one.p_holm == pytest.approx(ten.p_holm, nan_ok=True)
    assert (one.tentative, ten.tentative) == (rule >= 3, False)
    assert one.label == (f"tentatively {one.word}" if rule >= 3 else one.word) and ten.label == ten.word
    assert not one.firm and ten.firm == (rule == 3)
    if rule >= 3:
        predictions = ("better", "worse", "equivalent")
        assert [prediction_outcome(prediction, one) for prediction in predictions] == ["undecided"] * 3


def test_three_tuning_runs_are_few_for_better_and_worse_only() -> None:
    better = verdict_of(0.1 + 0.001 * NOISE[:3], tuning_runs=3)
    assert (better.label, better.firm) == ("tentatively better", False)
    equivalent, unseen = verdict_of(1e-5 * NOISE[:3], tuning_runs=3), verdict_of(0.03 * NOISE[:3], tuning_runs=3)
    assert (equivalent.label, unseen.label) == ("equivalent", "no detectable difference")


def test_what_is_paired_is_said_by_its_name() -> None:
    assert verdict_of(NOISE[:2], tuning_runs=1).reason == "2 paired seeds, 3 are needed"
    assert verdict_of(NOISE[:2], tuning_runs=2).reason == "2 paired tuning runs, 3 are needed"


def test_better_by_less_than_the_margin() -> None:
    verdict = verdict_of(0.004 + 0.0005 * NOISE, margin=0.01)
    assert (verdict.word, verdict.rule, verdict.within_margin) == ("better", 3, True)


def test_equivalent_within_the_margin() -> None:
    verdict = verdict_of(0.001 * NOISE, margin=0.01)
    assert (verdict.word, verdict.rule) == ("equivalent", 4)
    assert verdict.comparison.equivalence_interval.lies_within(0.01)


def test_no_detectable_difference() -> None:
    verdict = verdict_of(0.03 * NOISE, margin=0.001)
    assert (verdict.word, verdict.rule) == ("no detectable difference", 5)
    assert 0.02 < verdict.comparison.mde < 0.03


def test_holm_over_the_family_can_undo_a_verdict() -> None:
    differences = 0.0055 + 0.008 * NOISE
    alone, one_of_four = verdict_of(differences, 0.001), verdict_of(differences, 0.001, family=4)
    assert 0.05 / 4 < alone.comparison.p_t < 0.05
    assert (alone.word, one_of_four.word) == ("better", "no detectable difference")
    assert one_of_four.p_holm == pytest.approx(4 * alone.p_holm)


def test_a_diverged_seed_of_an_unbounded_metric_forbids_a_verdict() -> None:
    baseline = {seed: 1.0 + 0.1 * seed for seed in range(6)}
    rival = {seed: value - 0.5 for seed, value in baseline.items()} | {2: math.nan, 4: math.inf}
    verdict = family_verdicts({"rival": (rival, baseline)}, 0.01, "minimize")["rival"]
    assert (verdict.word, verdict.rule, verdict.reason, verdict.diverged) == ("no verdict", 1, "2 diverged", 2)


def test_a_diverged_seed_of_a_bounded_metric_counts_with_its_value() -> None:
    baseline = {seed: 0.6 + 0.01 * seed for seed in range(6)}
    rival = {seed: value + 0.03 for seed, value in baseline.items()} | {3: 0.1}
    verdict = family_verdicts({"rival": (rival, baseline)}, 0.01, diverged={"rival": 1})["rival"]
    assert verdict.comparison.n == 6 and verdict.comparison.mean == pytest.approx((5 * 0.03 - 0.53) / 6)
    assert verdict.diverged == 1 and verdict.rule == 5


@pytest.mark.parametrize(
    ("differences", "prediction", "outcome"),
    [
        (0.05 + 0.01 * NOISE, "better", "held"),
        (0.05 + 0.01 * NOISE, "worse", "did not hold"),
        (0.05 + 0.01 * NOISE, "equivalent", "did not hold"),
        (0.001 * NOISE, "equivalent", "held"),
        (0.001 * NOISE, "better", "did not hold"),
        (0.004 + 0.0005 * NOISE, "equivalent", "held"),
        (0.03 * NOISE, "better", "undecided"),
        (np.zeros(10), "better", "undecided"),
        (0.1 + 0.001 * NOISE[:4], "better", "undecided"),
        (NOISE[:2], "better", "undecided"),
    ],
)
def test_whether_a_prediction_held(differences: np.ndarray, prediction: str, outcome: str) -> None:
    assert prediction_outcome(prediction, verdict_of(differences)) == outcome


def test_error_rates_by_simulation() -> None:
    """No difference: 5% of verdicts are "better" or "worse". A difference of the MDE's size: 80% are "better"."""
    generator = np.random.default_rng(11)
    from hpo.analysis.paired_tests import minimal_detectable_effect

    effect = minimal_detectable_effect(1.0, 10)
    runs = 600
    noise = generator.normal(size=(runs, 10))
    false = sum(verdict_of(row, margin=0.001).rule == 3 for row in noise) / runs
    true = sum(verdict_of(row + effect, margin=0.001).word == "better" for row in noise) / runs
    assert false == pytest.approx(0.05, abs=0.03)
    assert true == pytest.approx(0.80, abs=0.05)
