"""The five rules on planted cases, and their error rates by simulation."""

import math

import numpy as np
import pytest

from hpo.analysis.paired_tests import Direction, minimal_detectable_effect
from hpo.analysis.verdicts import Verdict, family_verdicts, prediction_outcome

NOISE = np.array([-1.2, 0.4, 0.9, -0.3, 0.6, -0.8, 1.1, -0.5, 0.2, -0.4])


def verdict_of(
    differences: np.ndarray,
    margin: float = 0.01,
    direction: Direction = "maximize",
    family: int = 1,
    tuning_runs: int = 10,
) -> Verdict:
    """The verdict on planted differences; the other rivals of the family differ by noise only."""
    baseline = {1000 + seed: 0.5 + 0.01 * seed for seed in range(len(differences))}
    rival = {seed: baseline[seed] + value for seed, value in zip(baseline, differences, strict=True)}
    noise = {seed: value + 0.01 * NOISE[seed % 10] for seed, value in baseline.items()}
    pairs = {"rival": (rival, baseline), **{f"noise {i}": (noise, baseline) for i in range(1, family)}}
    return family_verdicts(pairs, margin, direction, tuning_runs=tuning_runs)["rival"]


# Differences, margin, direction -> verdict, rule.
CASES = {
    "no difference": (np.zeros(10), 0.01, "maximize", "identical", 2),
    "one difference": (np.full(10, 0.05), 0.01, "maximize", "identical", 2),
    "higher": (0.05 + 0.01 * NOISE, 0.01, "maximize", "better", 3),
    "lower": (-0.05 + 0.01 * NOISE, 0.01, "maximize", "worse", 3),
    "lower is better": (-0.05 + 0.01 * NOISE, 0.01, "minimize", "better", 3),
    "higher is worse": (0.05 + 0.01 * NOISE, 0.01, "minimize", "worse", 3),
    "higher by less than the margin": (0.004 + 0.0005 * NOISE, 0.01, "maximize", "better", 3),
    "higher, perhaps within the margin": (0.012 + 0.01 * NOISE, 0.01, "maximize", "better", 3),
    "within the margin": (0.001 * NOISE, 0.01, "maximize", "equivalent", 4),
    "noise": (0.03 * NOISE, 0.001, "maximize", "no detectable difference", 5),
    "no seed": (NOISE[:0], 0.01, "maximize", "no verdict", 1),
    "one seed": (0.1 + 0.001 * NOISE[:1], 0.01, "maximize", "no verdict", 1),
    "two seeds": (0.1 + 0.001 * NOISE[:2], 0.01, "maximize", "no verdict", 1),
}


@pytest.mark.parametrize("case", CASES)
def test_the_five_rules(case: str) -> None:
    differences, margin, direction, word, rule = CASES[case]
    verdict = verdict_of(differences, margin, direction)  # type: ignore[arg-type]
    assert (verdict.word, verdict.rule, verdict.firm) == (word, rule, rule == 3)
    assert verdict.within_margin == (case == "higher by less than the margin")
    assert bool(verdict.reason) == (rule == 1)
    assert verdict.comparison.n == len(differences)
    if len(differences):
        assert verdict.comparison.mean == pytest.approx(differences.mean(), abs=1e-12)
    if rule == 3:
        assert verdict.p_holm == verdict.comparison.p_t < 0.05


def test_unpaired_seeds_give_no_verdict() -> None:
    rival = {seed: 0.9 + 0.01 * seed for seed in range(5)}
    baseline = {seed + 4: 0.5 + 0.02 * seed for seed in range(5)}
    verdict = family_verdicts({"rival": (rival, baseline)}, 0.01)["rival"]
    assert verdict.rule == 1 and "not paired" in verdict.reason and verdict.comparison.n == 1


@pytest.mark.parametrize(("n", "tentative"), [(3, True), (4, True), (5, False)])
def test_tentatively_below_five_seeds(n: int, tentative: bool) -> None:
    verdict = verdict_of(0.1 + 0.001 * NOISE[:n])
    assert (verdict.word, verdict.tentative, verdict.firm) == ("better", tentative, not tentative)


@pytest.mark.parametrize("case", ["two seeds", "one difference", "higher", "within the margin", "noise"])
def test_after_one_tuning_run_every_verdict_on_configurations_is_tentative(case: str) -> None:
    differences, margin, *_, rule = CASES[case]
    one, ten = (verdict_of(differences, margin, tuning_runs=tuning_runs) for tuning_runs in (1, 10))
    assert one.rule == ten.rule == rule and one.word == ten.word
    assert str(one.comparison) == str(ten.comparison) and one.p_holm == pytest.approx(ten.p_holm, nan_ok=True)
    assert (one.tentative, ten.tentative) == (rule >= 3, False)
    assert one.label == (f"tentatively {one.word}" if rule >= 3 else one.word) and ten.label == ten.word
    assert not one.firm and ten.firm == (rule == 3)
    predictions = ("better", "worse", "equivalent")
    assert [prediction_outcome(prediction, one) for prediction in predictions] == ["undecided"] * 3


def test_with_three_tuning_runs_only_better_and_worse_are_tentative() -> None:
    better = verdict_of(0.1 + 0.001 * NOISE[:3], tuning_runs=3)
    assert (better.label, better.firm) == ("tentatively better", False)
    equivalent, noise = verdict_of(1e-5 * NOISE[:3], tuning_runs=3), verdict_of(0.03 * NOISE[:3], tuning_runs=3)
    assert (equivalent.label, noise.label) == ("equivalent", "no detectable difference")


@pytest.mark.parametrize(("tuning_runs", "unit"), [(1, "2 paired seeds"), (2, "2 paired tuning runs")])
def test_the_reason_names_what_is_paired(tuning_runs: int, unit: str) -> None:
    assert verdict_of(NOISE[:2], tuning_runs=tuning_runs).reason.startswith(unit)


def test_holm_over_the_family_can_undo_a_verdict() -> None:
    differences = 0.0055 + 0.008 * NOISE
    single, one_of_four = verdict_of(differences, 0.001), verdict_of(differences, 0.001, family=4)
    assert 0.05 / 4 < single.comparison.p_t < 0.05
    assert (single.word, one_of_four.word) == ("better", "no detectable difference")
    assert one_of_four.p_holm == pytest.approx(4 * single.p_holm)


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
    ("case", "prediction", "outcome"),
    [
        ("higher", "better", "held"),
        ("higher", "worse", "did not hold"),
        ("higher", "equivalent", "did not hold"),
        ("higher, perhaps within the margin", "equivalent", "undecided"),
        ("higher, perhaps within the margin", "better", "held"),
        ("within the margin", "equivalent", "held"),
        ("within the margin", "better", "did not hold"),
        ("higher by less than the margin", "equivalent", "held"),
        ("noise", "better", "undecided"),
        ("no difference", "better", "undecided"),
        ("two seeds", "better", "undecided"),
    ],
)
def test_whether_a_prediction_held(case: str, prediction: str, outcome: str) -> None:
    differences, margin, *_ = CASES[case]
    assert prediction_outcome(prediction, verdict_of(differences, margin)) == outcome


def test_error_rates_by_simulation() -> None:
    """Without a difference, 5% of verdicts are "better" or "worse"; with one of the MDE, 80% are "better"."""
    runs = 600
    noise = np.random.default_rng(11).normal(size=(runs, 10))
    effect = minimal_detectable_effect(1.0, 10)
    false = sum(verdict_of(row, margin=0.001).rule == 3 for row in noise) / runs
    true = sum(verdict_of(row + effect, margin=0.001).word == "better" for row in noise) / runs
    assert false == pytest.approx(0.05, abs=0.03)
    assert true == pytest.approx(0.80, abs=0.05)
