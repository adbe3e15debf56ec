"""The verdict's metric follows the study's score: its name, unit and direction in every sentence and table."""

import math
import re
from typing import Any

import pytest
from synthetic_record import diverge, synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.metric import ACCURACY, Metric, metric_of
from hpo.analysis.paired_tests import Interval, summarise
from hpo.report import formatting, make_record
from hpo.report.figure_plan import plan_figures
from hpo.report.figures import Curves
from hpo.report.page import Page, markdown

BASELINE = [2.0, 2.1, 1.9, 2.2, 2.0, 1.8]
NOISE = [0.01, -0.02, 0.02, 0.0, -0.01, 0.0]


def study_of(
    metric: str, direction: str, shift: float, noise: list[float] = NOISE, **definition: Any
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """A study whose score is `validation_METRIC`, with GNVR's test metric at a planted distance from the baseline's."""
    given = {"score": f"validation_{metric}", "direction": direction, "margin": 0.05} | definition
    export, curves = synthetic_export(seeds=6, **given)
    if metric != "loss":
        export["study"]["definition"]["metrics"] = {metric: {"kind": metric}}
    for row in export["slots"]:
        if row["phase"] == "rerun":
            own = BASELINE[row["slot"]]
            row["result"][f"test_{metric}"] = own + (
                shift + noise[row["slot"]] if row["configuration"] == "GNVR" else 0
            )
    return export, curves


def text_of(export: dict[str, Any], curves: dict[str, list[Any]]) -> str:
    return markdown(Page(compute_numbers(make_record(export, curves)), [], ["hpo run synthetic"], None))


def verdict_of(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("> - GNVR against AdamW: "))


@pytest.mark.parametrize(
    ("score", "direction", "expected"),
    [
        ("validation_accuracy", "maximize", ACCURACY),
        ("validation_loss", "minimize", Metric("test_loss", "minimize", False)),
        ("validation_mean_rank", "minimize", Metric("test_mean_rank", "minimize", False)),
        ("validation_f1", "maximize", Metric("test_f1", "maximize", False)),
        ("train_loss", "minimize", ACCURACY),
        ("noisy_labels_fitted", "minimize", ACCURACY),
    ],
)
def test_the_test_metric_answers_to_the_score(score: str, direction: str, expected: Metric) -> None:
    assert metric_of({"score": score, "direction": direction}) == expected


@pytest.mark.parametrize("metric", ["loss", "mean_rank"])
@pytest.mark.parametrize(
    ("direction", "shift", "word", "outcome"),
    [
        ("minimize", -0.3, "**better**", "held"),
        ("minimize", 0.3, "**worse**", "did not hold"),
        ("maximize", 0.3, "**better**", "held"),
        ("maximize", -0.3, "**worse**", "did not hold"),
    ],
)
def test_the_direction_decides_what_is_better(
    metric: str, direction: str, shift: float, word: str, outcome: str
) -> None:
    text = text_of(*study_of(metric, direction, shift, tuning_runs=6))
    shown = {-0.3: "−0.300", 0.3: "+0.300"}[shift]
    label = f"test {metric.replace('_', ' ')}"
    assert f"GNVR against AdamW: {word}; Δ = {shown}, 95% CI [" in verdict_of(text)
    assert "points" not in verdict_of(text)
    assert f"verdicts compare {label} ({'lower' if direction == 'minimize' else 'higher'} is better)" in text
    assert f"| configuration | n | {label} [95% CI] | test accuracy | final training loss |" in text
    header = "| against AdamW | n | Δ [95% CI] | tuning runs won | p (t) | p (sign flip) | p (Holm) | g | MDE | verd"
    assert header in text
    assert f"T2. Differences of {label} (" in text and f"T4. The {label} of every seed" in text
    assert f"- {label.capitalize()}: GNVR differs from AdamW by {shown} over 6 paired tuning runs" in text
    ahead = 6 if (shift < 0) == (direction == "minimize") else 0
    assert f"it is ahead on {ahead} of 6 tuning runs." in text
    assert f"fixed beforehand: 0.05 of {label}." in text
    assert f"The prediction (better) {outcome}." in text
    assert "| 1000 | 2.00 |" in text


@pytest.mark.parametrize(
    ("shift", "noise", "words"),
    [
        (0.0, NOISE, "equivalent within ±0.05"),
        (0.0, [20 * value for value in NOISE], "no detectable difference (smallest detectable: 0.406); Δ = 0, 95%"),
        (0.5, [0.0] * 6, "the same difference (+0.500) on every seed"),
        (0.03, [value / 10 for value in NOISE], "**worse, by less than the margin of 0.05**"),
    ],
)
def test_every_rule_speaks_in_the_metrics_unit(shift: float, noise: list[float], words: str) -> None:
    text = text_of(*study_of("loss", "minimize", shift, noise, tuning_runs=6))
    assert f"GNVR against AdamW: {words}" in verdict_of(text)


def test_a_diverged_rerun_has_no_value_of_an_unbounded_metric() -> None:
    export, curves = study_of("loss", "minimize", -0.3)
    diverge(export["slots"][-1], curves)
    text = text_of(export, curves)
    assert verdict_of(text).startswith("> - GNVR against AdamW: no verdict: 1 diverged; Δ = −0.300, 95% CI [")
    assert "5 paired seeds." in verdict_of(text) and "counted" not in verdict_of(text)
    assert "> - GNVR: 1 rerun diverged (seed 1005) and left its comparisons undecided.\n" in text
    assert "– (diverged)" in text and "A rerun that diverged has no test loss" in text
    rows = re.findall(r"^\| (AdamW|GNVR) \| (\d) \| ", text, re.MULTILINE)
    assert rows[:2] == [("AdamW", "6"), ("GNVR", "5")]
    assert "the n reruns that finished and did not diverge" in text


def test_the_verdicts_own_metric_is_not_told_twice() -> None:
    export, curves = study_of("rank", "minimize", -0.3)
    assert "T5." not in text_of(export, curves)
    export["study"]["definition"]["metrics"]["margin_size"] = {"kind": "margin_size"}
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["result"]["test_margin_size"] = 0.25
    text = text_of(export, curves)
    assert "T5. The study's other metrics on the test set" in text and "the verdicts are about test rank alone" in text
    assert "| margin size | GNVR | 6 |" in text and "\n| rank |" not in text


def test_a_score_without_a_test_metric_leaves_the_verdict_to_accuracy() -> None:
    export, curves = synthetic_export(score="train_loss", direction="minimize")
    text = text_of(export, curves)
    assert "verdicts compare test accuracy (higher is better; the score has no counterpart on the test set)" in text
    assert "| configuration | n | test accuracy [95% CI] | final training loss |" in text


def test_the_second_figure_shows_the_metric_by_epoch() -> None:
    export, curves = study_of("loss", "minimize", -0.3)
    record = make_record(export, curves)
    drawn = plan_figures(record, compute_numbers(record))[1]
    assert (drawn.path, drawn.title) == ("figures/2-validation-loss.png", "Validation loss")
    assert drawn.caption.startswith("Validation loss by epoch (lower is better): mean over")
    assert isinstance(drawn.info, Curves) and drawn.info.frame["high"].max() > 1 and not drawn.info.percent
    record = make_record(*study_of("mean_rank", "maximize", -0.3))
    lacking = plan_figures(record, compute_numbers(record))[1]
    assert (lacking.slug, lacking.title, lacking.info) == ("validation-mean-rank", "Validation mean rank", None)
    assert lacking.sentence == "no finished rerun has a value to draw."


def test_how_a_metric_prints_its_numbers() -> None:
    loss = Metric("test_loss", "minimize", False)
    assert [formatting.difference(value, loss) for value in (0.5, -0.5, 0.0, 1e-3, math.nan)] == [
        "+0.500", "−0.500", "0", "+1.00e-3", "–",
    ]  # fmt: skip
    assert (
        formatting.amount(0.017, loss, False),
        formatting.margin(0.01, loss),
        formatting.metric_value(1.5, loss),
    ) == ("0.0170", "0.01", "1.50")
    assert formatting.difference_interval(Interval(-0.2, 0.1), loss) == "[−0.200, 0.100]"
    assert (
        formatting.difference_interval(Interval(math.nan, math.nan), loss)
        == formatting.interval(Interval(math.nan, math.nan), loss)
        == "–"
    )
    assert formatting.amount(0.0019, ACCURACY) == "+0.19 points"
    assert (formatting.margin(0.005, ACCURACY), formatting.metric_value(0.478, ACCURACY)) == ("0.5 points", "47.80%")
    assert formatting.interval(Interval(0.462, 0.494), ACCURACY) == "[46.20%, 49.40%]"
    assert (formatting.spread(summarise([1.5, 1.5]), loss), formatting.spread(summarise([0.5]), ACCURACY)) == (
        "1.50 ± 0.00",
        "50.00%",
    )
