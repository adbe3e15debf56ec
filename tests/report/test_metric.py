"""The verdict's metric follows the study's score: its name, unit and direction in every sentence and table."""

import re
from typing import Any

import pytest
from report_text import text_of as report_text
from synthetic_record import diverge, synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.metric import ACCURACY, Metric, metric_of
from hpo.report import make_record
from hpo.report.figure_plan import plan_figures
from hpo.report.figures.curves import Curves
from hpo.report.tables import comparisons, custom_metrics, results, seeds
from hpo.report.wording import verdict_lines

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
            baseline_value = BASELINE[row["slot"]]
            row["result"][f"test_{metric}"] = baseline_value + (
                shift + noise[row["slot"]] if row["configuration"] == "GNVR" else 0
            )
    return export, curves


def text_of(export: dict[str, Any], curves: dict[str, list[Any]]) -> str:
    return report_text(make_record(export, curves))


def verdict_of(export: dict[str, Any], curves: dict[str, list[Any]]) -> str:
    return verdict_lines(compute_numbers(make_record(export, curves)))[0]


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
def test_the_test_metric_follows_the_score(score: str, direction: str, expected: Metric) -> None:
    assert metric_of({"score": score, "direction": direction}) == expected


@pytest.mark.parametrize("metric", ["loss", "mean_rank"])
@pytest.mark.parametrize(
    ("direction", "shift", "word", "outcome"),
    [
        ("minimize", -0.3, "better", "held"),
        ("minimize", 0.3, "worse", "did not hold"),
        ("maximize", 0.3, "better", "held"),
        ("maximize", -0.3, "worse", "did not hold"),
    ],
)
def test_the_direction_decides_what_is_better(
    metric: str, direction: str, shift: float, word: str, outcome: str
) -> None:
    export, curves = study_of(metric, direction, shift, tuning_runs=6)
    text, numbers = text_of(export, curves), compute_numbers(make_record(export, curves))
    delta, label = {-0.3: "−0.300", 0.3: "+0.300"}[shift], f"test {metric.replace('_', ' ')}"
    assert f"GNVR against AdamW: **{word}**; Δ = {delta}, 95% CI [" in verdict_of(export, curves)
    assert "points" not in verdict_of(export, curves) and f"| **{word}** | {delta} [" in text
    assert numbers.rivals[0].outcome == outcome
    assert numbers.rivals[0].verdict.comparison.won == (6 if word == "better" else 0)
    assert results(numbers).header[2:4] == [f"{label} [95% CI]", "test accuracy"]
    assert comparisons(numbers).header[2:4] == ["Δ [95% CI]", "tuning runs won"]
    assert seeds(numbers).rows[0][:3] == ["1", "1000", "2.00"]
    better = f"{label} ({'lower' if direction == 'minimize' else 'higher'} is better)"
    assert text.count(better) == 2 and f": 0.05 of {label}." in text


@pytest.mark.parametrize(
    ("shift", "noise", "words"),
    [
        (0.0, NOISE, "equivalent within ±0.05"),
        (0.0, [20 * value for value in NOISE], "no detectable difference (smallest detectable: 0.406); Δ = 0, 95%"),
        (0.5, [0.0] * 6, "the same difference (+0.500) on every seed"),
        (0.03, [value / 10 for value in NOISE], "**worse, by less than the margin of 0.05**"),
    ],
)
def test_every_rule_uses_the_metrics_unit(shift: float, noise: list[float], words: str) -> None:
    assert f"GNVR against AdamW: {words}" in verdict_of(*study_of("loss", "minimize", shift, noise, tuning_runs=6))


def test_a_diverged_rerun_has_no_value_of_an_unbounded_metric() -> None:
    export, curves = study_of("loss", "minimize", -0.3)
    diverge(export["slots"][-1], curves)
    text, numbers = text_of(export, curves), compute_numbers(make_record(export, curves))
    verdict = verdict_of(export, curves)
    assert verdict.startswith("GNVR against AdamW: no verdict: 1 diverged; Δ = −0.300, 95% CI [")
    assert "5 paired seeds." in verdict and "counted" not in verdict
    assert seeds(numbers).rows[-1][-1] == "– (diverged)" and [row[1] for row in results(numbers).rows] == ["6", "5"]
    assert re.search(r"^> - GNVR: 1 rerun diverged \(seed 1005\); .*no verdict\.$", text, re.MULTILINE)


def test_the_verdicts_metric_is_not_reported_twice() -> None:
    export, curves = study_of("rank", "minimize", -0.3)
    assert "T5." not in text_of(export, curves)
    export["study"]["definition"]["metrics"]["margin_size"] = {"kind": "margin_size"}
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["result"]["test_margin_size"] = 0.25
    assert "T5. The study's other custom metrics" in text_of(export, curves)
    rows = custom_metrics(compute_numbers(make_record(export, curves))).rows
    cells = ["6", "0.250 ± 0.000"]
    assert [row[:5] for row in rows] == [["margin size", "not stated", name, *cells] for name in ("AdamW", "GNVR")]
    assert [row[5] for row in rows] == ["–", "0"]
    for direction, word in (("minimize", "lower"), ("maximize", "higher")):
        export["study"]["text"]["directions"] = {"margin_size": direction}
        assert {row[1] for row in custom_metrics(compute_numbers(make_record(export, curves))).rows} == {word}


def test_a_score_without_a_test_metric_leaves_the_verdict_to_accuracy() -> None:
    export, curves = synthetic_export(score="train_loss", direction="minimize")
    text, numbers = text_of(export, curves), compute_numbers(make_record(export, curves))
    assert numbers.metric == ACCURACY and "the score has no counterpart on the test set" in text
    assert results(numbers).header[2:4] == ["test accuracy [95% CI]", "final training loss"]


def test_the_second_figure_shows_the_metric_by_epoch() -> None:
    export, curves = study_of("loss", "minimize", -0.3)
    record = make_record(export, curves)
    figure = plan_figures(record, compute_numbers(record))[1]
    assert (figure.path, figure.title) == ("figures/2-validation-loss.png", "Validation loss")
    assert "lower is better" in figure.caption
    assert isinstance(figure.chart, Curves) and figure.chart.frame["high"].max() > 1 and not figure.chart.metric.share
    record = make_record(*study_of("mean_rank", "maximize", -0.3))
    missing = plan_figures(record, compute_numbers(record))[1]
    assert (missing.slug, missing.title, missing.chart) == ("validation-mean-rank", "Validation mean rank", None)
