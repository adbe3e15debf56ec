"""Comparisons that a study plans between two rivals: one family with those with the baseline, recomputed by scipy."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_text import part, section, text_of
from scipy import stats
from synthetic_record import synthetic_export

from hpo import MLP, Configuration, Mnist1d, Study
from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record, make_record
from hpo.errors import UsageError
from hpo.report import Results, write_comparison, write_report
from hpo.report.export import export_tables
from hpo.report.figure_plan import plan_figures
from hpo.report.summary import summarise
from hpo.study.definition import describe, digest

NAMES = ("AdamW", "two views", "GVR", "SAM")
VALUES = {
    "AdamW": [0.50, 0.51, 0.49, 0.50, 0.52, 0.48, 0.50, 0.51, 0.50],
    "two views": [0.52, 0.55, 0.51, 0.56, 0.53, 0.50, 0.52, 0.55, 0.54],
    "GVR": [0.56, 0.58, 0.55, 0.59, 0.58, 0.54, 0.55, 0.60, 0.57],
    "SAM": [0.51, 0.50, 0.50, 0.49, 0.53, 0.47, 0.51, 0.50, 0.52],
}
PAIRS = [("two views", "AdamW"), ("GVR", "AdamW"), ("SAM", "AdamW"), ("GVR", "two views")]


def planned(tuning_runs: int = 1, prediction: str | None = "better", name: str = "synthetic") -> Record:
    """GVR is also compared with "two views"."""
    export, curves = synthetic_export(names=NAMES, seeds=9, accuracies=VALUES, tuning_runs=tuning_runs)
    export["study"]["definition"]["configurations"][2]["against"] = {"two views": prediction}
    export["study"]["name"] = name
    return make_record(export, curves)


def by_hand(tuning_runs: int) -> dict[tuple[str, str], dict[str, Any]]:
    """The family by scipy: means of tuning runs (seed s is of run s mod R), t tests, and Holm step by step."""
    sides = {name: np.asarray(values) for name, values in VALUES.items()}
    if tuning_runs > 1:
        runs = np.arange(9) % tuning_runs
        sides = {name: np.array([v[runs == run].mean() for run in range(tuning_runs)]) for name, v in sides.items()}
    tests = {pair: stats.ttest_rel(sides[pair[0]], sides[pair[1]]) for pair in PAIRS}
    ordered = sorted(PAIRS, key=lambda pair: tests[pair].pvalue)
    adjusted: dict[tuple[str, str], float] = {}
    highest = 0.0
    for rank, pair in enumerate(ordered):
        highest = max(highest, min(1.0, (len(PAIRS) - rank) * tests[pair].pvalue))
        adjusted[pair] = highest
    level = 1 - 2 * 0.05 / len(PAIRS)
    return {
        pair: {
            "mean": (sides[pair[0]] - sides[pair[1]]).mean(), "p": tests[pair].pvalue, "p_holm": adjusted[pair],
            "interval": tuple(tests[pair].confidence_interval(0.95)),
            "equivalence": tuple(tests[pair].confidence_interval(level)),
        }
        for pair in PAIRS
    }  # fmt: skip


@pytest.mark.parametrize("tuning_runs", [1, 3])
def test_every_planned_comparison_is_in_one_family(tuning_runs: int) -> None:
    numbers = compute_numbers(planned(tuning_runs))
    assert [(rival.name, rival.against) for rival in numbers.comparisons] == PAIRS
    assert [(rival.name, rival.against) for rival in numbers.planned] == [("GVR", "two views")]
    for rival in numbers.comparisons:
        expected, verdict = by_hand(tuning_runs)[rival.name, rival.against], rival.verdict
        assert verdict.comparison.mean == pytest.approx(expected["mean"])
        assert verdict.comparison.p_t == pytest.approx(expected["p"])
        assert verdict.p_holm == pytest.approx(expected["p_holm"])
        assert verdict.comparison.interval == pytest.approx(expected["interval"])
        assert verdict.comparison.equivalence_interval == pytest.approx(expected["equivalence"])
        assert verdict.comparison.family == 4
        assert (verdict.rule == 3) == (expected["p_holm"] < 0.05)


def test_a_plan_costs_the_other_comparisons_power() -> None:
    export, curves = synthetic_export(names=NAMES, seeds=9, accuracies=VALUES)
    without = compute_numbers(make_record(export, curves)).rivals
    for rival, alone in zip(compute_numbers(planned()).rivals, without, strict=True):
        assert rival.verdict.comparison.p_t == alone.verdict.comparison.p_t
        assert rival.verdict.p_holm >= alone.verdict.p_holm and rival.verdict.comparison.mde > (
            alone.verdict.comparison.mde
        )


def test_planned_pairs_leave_t3_and_have_their_own_prediction() -> None:
    numbers = compute_numbers(planned())
    assert [(pair.name, pair.other) for pair in numbers.pairs] == [("SAM", "two views"), ("SAM", "GVR")]
    [pair] = numbers.planned
    assert pair.prediction == "better" and pair.verdict.word == "better"
    assert pair.outcome == "undecided"  # after one tuning run every verdict is tentative
    assert pair.custom_metrics == {} and pair.memorisation is not None


def test_every_page_knows_the_pair(tmp_path: Path) -> None:
    record, words = planned(), "GVR against two views"
    text = text_of(record)
    assert section(text, "Conclusion").count(words) == 1 and "predicted to be better than two views" in text
    assert f"| {words} |" in part(text, "T2.", "T3.") and "m = 4" in text
    assert f"| {words} |" not in part(text, "T3.", "T4.")
    write_report(record, tmp_path / "synthetic", "synthetic", [])
    assert words in (tmp_path / "synthetic" / "results.tex").read_text()
    results = json.loads((tmp_path / "synthetic" / "results.json").read_text())
    assert [(entry["name"], entry["against"]) for entry in results["planned"]] == [("GVR", "two views")]
    assert any(line.startswith(words) for line in results["verdicts"])
    [forest] = [figure for figure in plan_figures(record, compute_numbers(record)) if figure.slug == "differences"]
    assert forest.chart is not None
    assert [trace["name"] for trace in forest.chart.draw_plotly()["data"]] == ["two views", "GVR", "SAM", words]
    ticks = forest.chart.draw_plotly()["layout"]["yaxis"]["ticktext"]
    assert ticks == ["two views", "GVR", "SAM", "GVR<br>against two views"]
    note = summarise(record).note
    assert note.count(words) == 2  # a verdict, and a row of T2
    export_tables(Results(record), tmp_path / "tables", "csv")
    rows = list(csv.DictReader((tmp_path / "tables" / "verdicts.csv").read_text().splitlines()))
    assert [(row["configuration"], row["against"]) for row in rows] == PAIRS


def test_another_learning_rate_is_named_for_every_comparison() -> None:
    export, curves = synthetic_export(names=NAMES, seeds=9, accuracies=VALUES)
    export["study"]["definition"]["configurations"][2]["against"] = {"two views": "better"}
    rates = {"AdamW": 1e-3, "two views": 1e-3, "GVR": 1e-2, "SAM": 1e-3}
    for row in export["slots"]:
        if row["setting"]:
            row["setting"] = row["setting"] | {"learning_rate": rates[row["configuration"]]}
    sentence = text_of(make_record(export, curves)).partition("smoother: ")[2].partition("\n")[0]
    words = "GVR was trained at another learning rate than"
    assert sentence == f"{words} AdamW; {words} two views."


def test_a_comparison_of_studies_has_a_row_for_the_pair(tmp_path: Path) -> None:
    write_comparison([planned(name="one"), planned(3, name="two")], tmp_path / "both", "hpo report one two --compare")
    text = (tmp_path / "both" / "README.md").read_text()
    [difference] = [
        line for line in part(text, "A2.", "A3.").splitlines() if line.startswith("| GVR against two views")
    ]
    assert difference.count("better") == 2
    [count] = [line for line in part(text, "A3.", "## Perf").splitlines() if line.startswith("| GVR against two views")]
    assert count.split("|")[2].strip() == "2"


def test_latex_has_the_pair_on_a_row_of_its_own_below_the_configurations() -> None:
    from hpo.report.latex import latex

    numbers = compute_numbers(planned(3))
    rows = [line.split(" & ") for line in latex(numbers).splitlines() if line.count(" & ") == 5][1:]
    assert [row[0].strip() for row in rows] == [*NAMES, "GVR against two views"]
    assert [row[1] for row in rows] == [*(str(entry.reruns.finished) for entry in numbers.configurations), "--"]
    deltas = [row[3] for row in rows]
    assert deltas[0] == "--" and deltas[4].startswith("+") and deltas[4] != deltas[2]


def study(against: Any, **changes: Any) -> Study:
    configurations = (Configuration("A"), Configuration("B"), Configuration("C", against=against))
    values = {"data": Mnist1d(), "model": MLP((40, 8, 10)), "baseline": "A", "configurations": configurations}
    return Study(**{**values, **changes})


def test_the_definition_holds_the_plan_only_where_there_is_one() -> None:
    plain = describe(study(()))
    assert all("against" not in entry for entry in plain["configurations"])
    named, listed = (describe(study(against))["configurations"][2] for against in ("B", ["B"]))
    assert named == listed and named["against"] == {"B": None}
    assert digest(plain) != digest(describe(study("B"))) != digest(describe(study({"B": "worse"})))


@pytest.mark.parametrize(
    ("against", "said"),
    [
        ("D", "one of the configurations"),
        ("C", "its own name"),
        ("A", "with the baseline anyway"),
        ({"B": "bigger"}, "'better'"),
        (3, "the name of another configuration"),
        ([3], "the name of another configuration"),
    ],
)
def test_a_wrong_plan_is_refused_in_one_sentence(against: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        study(against)


def test_a_comparison_planned_from_both_sides_is_refused() -> None:
    both = (Configuration("A"), Configuration("B", against="C"), Configuration("C", against="B"))
    with pytest.raises(UsageError, match="planned twice"):
        study((), configurations=both)
