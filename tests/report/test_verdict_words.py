"""Every branch of the verdict rules as a sentence, from arrays made by hand."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from report_text import section, text_of
from scipy import stats
from synthetic_record import fail, synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.metric import ACCURACY, Metric
from hpo.analysis.verdicts import Verdict, family_verdicts
from hpo.report import make_record
from hpo.report.wording import verdict_lines, verdict_words

LOSS = Metric("test_loss", "minimize", share=False)
NAN = float("nan")
EVEN = [0.50, 0.52, 0.48, 0.51, 0.49, 0.50]


def verdict_of(
    rival: Sequence[float],
    baseline: Sequence[float],
    metric: Metric = ACCURACY,
    margin: float = 0.01,
    tuning_runs: int = 6,
) -> Verdict:
    pair = (dict(enumerate(rival)), dict(enumerate(baseline)))
    return family_verdicts({"rival": pair}, margin, metric.direction, tuning_runs=tuning_runs)["rival"]


def shifted(*differences: float) -> tuple[list[float], list[float]]:
    return [value + gain for value, gain in zip(EVEN, differences, strict=False)], EVEN[: len(differences)]


# (rival and baseline by seed, metric, margin, rule, the whole sentence). Means and intervals can be checked by hand:
# with n = 6, the 90% interval is the mean ± 0.823 SD, p < 0.05 needs a mean of 1.049 SD, and the MDE is 1.435 SD.
UP, WAVE = (0.05, 0.06, 0.04, 0.05, 0.06, 0.04), (0.02, -0.03, 0.01, -0.02, 0.03, -0.01)
CHECK = "on every seed: check that the setting takes effect"
BRANCHES = {
    "1, no pair": (([], []), ACCURACY, 0.01, 1, "no verdict: no seed has been rerun for both"),
    "1, two pairs": (shifted(0.1, 0.2), ACCURACY, 0.01, 1, "no verdict: 2 paired tuning runs, 3 are needed"),
    "1, diverged, no bound": (([NAN, 1.0, 1.0, 1.0], [1.1, 1.2, NAN, 1.3]), LOSS, 0.01, 1, "no verdict: 2 diverged"),
    "2, identical": (shifted(0, 0, 0), ACCURACY, 0.01, 2, f"identical {CHECK}"),
    "2, rounding errors": (([0.1 + 0.2, 1e16, 1e-14], [0.3, 1e16, 1e-14]), LOSS, 0.01, 2, f"identical {CHECK}"),
    "2, in points": (shifted(0.02, 0.02, 0.02), ACCURACY, 0.01, 2, f"the same difference (+2.00) {CHECK}"),
    "2, a number": (shifted(-0.5, -0.5, -0.5), LOSS, 0.01, 2, f"the same difference (−0.500) {CHECK}"),
    "2, a tiny number": (
        ([3e-14, 4e-14, 2e-14], [2e-14, 3e-14, 1e-14]), LOSS, 0.01, 2, f"the same difference (+1.00e-14) {CHECK}",
    ),
    "3, firm": (shifted(*UP), ACCURACY, 0.01, 3, "**better**"),
    "3, a loss": (shifted(*UP), LOSS, 0.01, 3, "**worse**"),
    "3, five are enough": (shifted(*UP[:5]), ACCURACY, 0.01, 3, "**better**"),
    "3, tentative": (shifted(*UP[:4]), ACCURACY, 0.01, 3, "tentatively better"),
    "3, within the margin": (
        shifted(*(gain / 10 for gain in UP)), ACCURACY, 0.01, 3, "**better, by less than the margin of 1 point**",
    ),
    "3, within the margin, a loss": (
        shifted(*(gain * 10 for gain in UP)), LOSS, 1.0, 3, "**worse, by less than the margin of 1**",
    ),
    "4, points": (shifted(*(d / 10 for d in WAVE)), ACCURACY, 0.005, 4, "equivalent within ±0.5 points"),
    "4, a number": (shifted(*(d * 10 for d in WAVE)), LOSS, 0.25, 4, "equivalent within ±0.25"),
    "5, points": (shifted(*WAVE), ACCURACY, 0.01, 5, "no detectable difference (smallest detectable: 3.39 points)"),
    "5, a number": (
        shifted(*(d * 10 for d in WAVE)), LOSS, 0.1, 5, "no detectable difference (smallest detectable: 0.339)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("branch", BRANCHES)
def test_every_branch_has_its_sentence_which_is_tentative_after_one_tuning_run(branch: str) -> None:
    (rival, baseline), metric, margin, rule, sentence = BRANCHES[branch]
    verdict = verdict_of(rival, baseline, metric, margin)
    assert (verdict.rule, verdict_words(verdict, metric)) == (rule, sentence)
    plain = sentence.strip("*").removeprefix("tentatively ").replace("tuning run", "seed")
    words = verdict_words(verdict_of(rival, baseline, metric, margin, tuning_runs=1), metric)
    assert words == (f"tentatively {plain}" if rule >= 3 else plain)


def test_the_sentence_claims_what_the_numbers_say() -> None:
    """Over many random arrays: word, side, bold and margin follow from p, interval and n, computed here as well."""
    generator = np.random.default_rng(11)
    seen = set()
    for _ in range(400):
        n = int(generator.integers(2, 12))
        shift, spread = generator.choice([0.0, 0.004, 0.03, -0.03]), generator.choice([0.0005, 0.004, 0.03])
        baseline = generator.normal(0.5, 0.02, n)
        rival = baseline + shift + generator.normal(0, spread, n)
        metric = ACCURACY if generator.random() < 0.5 else LOSS
        runs = int(generator.choice([1, n]))
        words = verdict_words(verdict_of(rival.tolist(), baseline.tolist(), metric, tuning_runs=runs), metric)
        differences = rival - baseline
        seen.add(re.sub(r"[\d.]+", "x", words))
        if n < 3:
            assert words.startswith("no verdict: ")
            continue
        test = stats.ttest_rel(rival, baseline)
        inner = test.confidence_interval(0.90)
        within = inner.low > -0.01 and inner.high < 0.01
        if test.pvalue < 0.05:
            better = (differences.mean() > 0) == (metric.direction == "maximize")
            assert ("better" if better else "worse") in words
            assert words.startswith("**") == (n >= 5 and runs > 1) == ("tentatively" not in words)
            assert ("by less than the margin" in words) == within
        else:
            word = "equivalent" if within else "no detectable difference"
            assert "**" not in words and words.startswith("tentatively " * (runs == 1) + word)
    assert len(seen) >= 12


@pytest.mark.parametrize(
    ("who", "reason"),
    [(("GNVR",), "tuning failed for GNVR"), (("AdamW",), "tuning failed for AdamW"),
     (("AdamW", "GNVR"), "tuning failed for GNVR and AdamW")],
)  # fmt: skip
def test_failed_tuning_is_the_reason(who: tuple[str, ...], reason: str) -> None:
    export, curves = synthetic_export()
    for row in export["slots"]:
        if row["configuration"] in who:
            fail(export, row)
    [line] = verdict_lines(compute_numbers(make_record(export, curves)))
    assert line == f"GNVR against AdamW: no verdict: {reason}."


@pytest.mark.parametrize("one_run", [False, True])
@pytest.mark.parametrize(
    ("prediction", "differences", "outcome"),
    [
        ("better", UP, "held"),
        ("worse", UP, "did not hold"),
        ("equivalent", tuple(d / 10 for d in WAVE), "held"),
        ("worse", WAVE, "is undecided"),
        (None, UP, ""),
    ],
)
def test_the_outcome_of_the_prediction(
    prediction: str | None, differences: tuple[float, ...], outcome: str, one_run: bool
) -> None:
    """After one tuning run every prediction is undecided."""
    rival, baseline = shifted(*differences)
    accuracies = {"AdamW": baseline, "GNVR": rival}
    runs = 1 if one_run else len(rival)
    export, curves = synthetic_export(seeds=len(rival), tuning_runs=runs, accuracies=accuracies)
    export["study"]["definition"]["configurations"][1]["prediction"] = prediction
    conclusion = section(text_of(make_record(export, curves)), "Conclusion").strip()
    if prediction:
        tentative = "is undecided" + ", since a tentative verdict decides no prediction" * (differences != WAVE)
        assert conclusion.endswith(f" The prediction ({prediction}) {tentative if one_run else outcome}.")
    else:
        assert "prediction" not in conclusion


@pytest.mark.parametrize(
    ("differences", "why"),
    [
        (WAVE, "is wider than twice the margin, so that no mean difference could have shown equivalence"),
        (tuple(0.006 + d / 4 for d in WAVE), "does not lie within ±1 point"),
    ],
)
def test_an_undecided_equivalence_says_what_the_interval_is_and_whether_the_study_could_have_shown_it(
    differences: tuple[float, ...], why: str
) -> None:
    rival, baseline = shifted(*differences)
    export, curves = synthetic_export(
        names=("AdamW", "GNVR", "other"),
        seeds=len(rival),
        tuning_runs=len(rival),
        accuracies={"AdamW": baseline, "GNVR": rival, "other": rival},
    )
    export["study"]["definition"]["configurations"][1]["prediction"] = "equivalent"
    [line] = [
        line for line in section(text_of(make_record(export, curves)), "Conclusion").splitlines() if "GNVR" in line
    ]
    paired = np.array(rival) - np.array(baseline)
    half = stats.t.ppf(1 - 0.05 / 2, len(paired) - 1) * paired.std(ddof=1) / np.sqrt(len(paired))  # 1 − 2 · 0.05 / 2
    ends = ", ".join(f"{100 * (paired.mean() + side * half):.2f}".replace("-", "−") for side in (-1, 1))
    if "wider" in why:
        assert 2 * half > 2 * 0.01
    assert line.endswith(f"The prediction (equivalent) is undecided: the 95% interval [{ends}] {why}.")
