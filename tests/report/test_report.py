"""Reports at every moment of a study: what stands in them, and what never does."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_record import diverge, fail, synthetic_export, synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.analysis.metric import ACCURACY
from hpo.report import Record, formatting, make_record, write_report
from hpo.report.page import Page, markdown
from hpo.report.tables import spaces

FORBIDDEN = re.compile(r"promising|confirm|robust|significan", re.IGNORECASE)
SENTENCE = r"<p>Figure \d\. [^.:]+: (?:it appears|they are shown|no |the scores do not)"
FILES = [
    *("README.md", "curves.csv", "report.html", "reruns.csv", "results.json", "results.tex"),
    *("trial_curves.csv", "trials.csv"),
]
NAMES = ("AdamW", "GNVR")
TEMPLATES = Path(sys.modules[write_report.__module__].__file__ or "").parent / "templates"


def rerun_rows(export: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [row for row in export["slots"] if row["configuration"] == name and row["phase"] == "rerun"]


def one_configuration_failed() -> Record:
    export, curves = synthetic_export(names=("AdamW", "GNVR", "ROGC"))
    mine = [row for row in export["slots"] if row["configuration"] == "GNVR"]
    for row in mine:
        fail(export, row)
    gone = {row["id"] for row in mine}
    keep = [slot not in gone for slot in curves["slot_id"]]
    kept = {column: [v for v, k in zip(values, keep, strict=True) if k] for column, values in curves.items()}
    return make_record(export, kept)


def one_seed_diverged(bounded: bool = True) -> Record:
    export, curves = synthetic_export()
    diverge(rerun_rows(export, "GNVR")[2], curves, bounded=bounded)
    return make_record(export, curves)


def everything_diverged() -> Record:
    export, curves = synthetic_export(direction="minimize")
    for row in export["slots"]:
        diverge(row, curves, bounded=False)
    return make_record(export, curves)


def one_rerun_failed() -> Record:
    export, curves = synthetic_export()
    fail(export, rerun_rows(export, "AdamW")[3], "timeout")
    return make_record(export, curves)


def trials_of_one_diverged() -> Record:
    export, curves = synthetic_export()
    for row in export["slots"]:
        if row["configuration"] == "GNVR" and row["phase"] == "tune":
            diverge(row, curves)
    return make_record(export, curves)


def everything_failed() -> Record:
    export, curves = synthetic_export()
    for row in export["slots"]:
        fail(export, row)
    return make_record(export, {column: [] for column in curves})


def every_rerun_diverged_at_once() -> Record:
    export, curves = synthetic_export()
    for row in export["slots"]:
        if row["phase"] == "rerun":
            diverge(row, curves, epoch=1)
    return make_record(export, curves)


def in_training() -> Record:
    export, curves = synthetic_export(finished_trials=3)
    for row in export["slots"][3:6]:
        row.update(state="leased", worker_id="worker-1", attempt=1, setting={"learning_rate": 1e-3}, lease_until=2e9)
    return make_record(export, curves)


def no_worker_yet() -> Record:
    export, curves = synthetic_export(finished_trials=0)
    return make_record({**export, "workers": []}, curves)


def own_metric_diverged() -> Record:
    """A metric of the study's own, a diverged rerun, one failed for good, and seeds added after a report."""
    export, curves = synthetic_export(
        names=("AdamW", "GNVR", "SAM"),
        score="validation_rank",
        direction="minimize",
        metrics={"rank": {"kind": "rank"}},
    )
    for row in export["slots"]:
        if row["result"]:
            row["result"] |= {f"{part}_rank": 2.5 + row["id"] / 100 for part in ("validation", "test")}
            row["value"] = 2.5 + row["id"] / 100
    diverge(rerun_rows(export, "GNVR")[1], curves, bounded=False)
    fail(export, rerun_rows(export, "SAM")[2])
    export["study"]["notes"] = [{"time": 1.0, "event": "seeds raised from 3 to 5 after a report"}]
    return make_record(export, curves)


MOMENTS: dict[str, Callable[[], Record]] = {
    "nothing yet": no_worker_yet,
    "half-way tuning": in_training,
    "tuned, no reruns": lambda: synthetic_record(finished_reruns=0),
    "one rerun": lambda: synthetic_record(finished_reruns=1),
    "two reruns": lambda: synthetic_record(finished_reruns=2),
    "finished": synthetic_record,
    "one seed": lambda: synthetic_record(seeds=1),
    "two seeds": lambda: synthetic_record(seeds=2),
    "one hundred seeds": lambda: synthetic_record(seeds=100, trials=3, epochs=3),
    "twelve configurations": lambda: synthetic_record(names=["AdamW", *"abcdefghijk"], trials=4),
    "minimised score": lambda: synthetic_record(direction="minimize"),
    "one epoch, one trial": lambda: synthetic_record(epochs=1, trials=1),
    "no label noise": lambda: synthetic_record(label_noise=False),
    "one configuration failed": one_configuration_failed,
    "one seed diverged": one_seed_diverged,
    "one seed diverged, unbounded": lambda: one_seed_diverged(bounded=False),
    "everything diverged": everything_diverged,
    "one rerun failed": one_rerun_failed,
    "every trial of one configuration diverged": trials_of_one_diverged,
    "everything failed": everything_failed,
    "every rerun diverged at once": every_rerun_diverged_at_once,
    "own metric, one seed diverged": own_metric_diverged,
    "one hundred seeds of a loss": lambda: synthetic_record(direction="minimize", seeds=100, trials=3, epochs=3),
    "odd names": lambda: synthetic_record(names=("a|b", "<b>$x$</b> *y* `z`", "_c_[d](e)&lt;")),
}


def render(record: Record, folder: Path, analysis: str | None = None) -> str:
    path = write_report(record, folder, "synthetic", ["hpo run synthetic"], analysis)
    assert path == folder / "README.md"
    return path.read_text(encoding="utf-8")


def figures_of(page: str) -> dict[str, Any]:
    """The drawings in a page, by their slug."""
    found = re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)
    drawn: dict[str, Any] = json.loads(found[1], parse_constant=pytest.fail) if found else {}
    for slug in drawn:
        assert f'<div class="figure" id="{slug}">' in page
    return drawn


def text_of(record: Record) -> str:
    """README.md alone, without its pictures and its page."""
    return markdown(Page(compute_numbers(record), [], ["hpo run synthetic"], None))


def planted(difference: np.ndarray, **options: Any) -> Record:
    """A study of one tuning run, where `options` give no `tuning_runs`."""
    baseline = 0.5 + 0.01 * np.arange(len(difference))
    accuracies = {"AdamW": baseline.tolist(), "GNVR": (baseline + difference).tolist()}
    return synthetic_record(seeds=len(difference), accuracies=accuracies, **options)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_report_at_every_moment(moment: str, tmp_path: Path) -> None:
    text = render(MOMENTS[moment](), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == FILES
    for part in ("Hypothesis", "Methodology", "Results", "Analysis", "Tuning", "Conclusion", "Limits", "Reproduce"):
        assert f"\n## {part}\n" in text and f"<h2>{part}</h2>" in page
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", text)
    assert not FORBIDDEN.search(text)
    assert not re.search(r"[−+-]0(\.0+)?(?![\d.e])", text), "zero has no sign"
    assert not re.search(r"\b1 (epochs|seeds|trials|reruns|points|configurations)\b", text)
    body = page.split("<script>")[0]
    assert len(re.findall(r"^\|[-:|]+\|$", text, re.MULTILINE)) == body.count("<table>") >= 4
    header_cells = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| conf")]
    assert header_cells[0] == len(re.findall("<th ", body[body.index("<thead>") : body.index("</thead>")])) + 1
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    shown = re.findall(r"!\[[^\]]*\]\(figures/([^)]+)\)", text)
    assert drawn == shown
    assert re.findall(r"^Figure (\d)\. \S", text, re.MULTILINE) == list("12345678")
    assert (
        len(shown) + len(re.findall(r"^Figure [1-4]\. [^.:]+: (?:it appears with|no ).*\.$", text, re.MULTILINE)) == 4
    )
    assert len(figures_of(page)) + len(re.findall(SENTENCE, page)) == 8
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("moment", ["finished", "one configuration failed", "nothing yet"])
def test_the_same_record_gives_the_same_bytes(moment: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        render(MOMENTS[moment](), tmp_path / name, analysis="The author's words.")
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) >= len(FILES)
    for path in files:
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path.name


def test_a_report_written_over_another_keeps_no_stale_figure(tmp_path: Path) -> None:
    render(synthetic_record(), tmp_path)
    assert list((tmp_path / "figures").iterdir())
    render(no_worker_yet(), tmp_path)
    assert not list((tmp_path / "figures").iterdir())


def test_no_template_or_sentence_claims_more_than_a_test() -> None:
    sources = [*TEMPLATES.iterdir(), *TEMPLATES.parent.glob("*.py")]
    assert len(sources) > 8
    for source in sources:
        assert not FORBIDDEN.search(source.read_text(encoding="utf-8")), source.name
    assert not any("**" in source.read_text(encoding="utf-8") for source in TEMPLATES.glob("*.md.jinja"))


NOISE = np.array([-1.2, 0.4, 0.9, -0.3, 0.6, -0.8, 1.1, -0.5, 0.2, -0.4])
PLANTED = [
    (0.05 + 0.01 * NOISE, "**better**", True, "The prediction (better) held."),
    (-0.05 + 0.01 * NOISE, "**worse**", True, "The prediction (better) did not hold."),
    (0.004 + 0.0005 * NOISE, "**better, by less than the margin of 1 point**", True, "held."),
    (0.1 + 0.001 * NOISE[:4], "tentatively better", False, "is undecided."),
    (0.001 * NOISE, "equivalent within ±1 point", False, "did not hold."),
    (0.03 * NOISE, "no detectable difference (smallest detectable: 2.26 points)", False, "is undecided."),
    (0 * NOISE, "identical on every seed: check that the setting takes effect", False, "is undecided."),
    (NOISE[:2], "no verdict: 2 paired tuning runs, 3 are needed", False, "is undecided."),
]


@pytest.mark.parametrize(("difference", "words", "bold", "outcome"), PLANTED)
def test_planted_verdicts(difference: np.ndarray, words: str, bold: bool, outcome: str) -> None:
    text = text_of(planted(difference, tuning_runs=len(difference))).replace("Planted differences are **found**.", "")
    block = text[: text.index("## Hypothesis")]
    assert f"GNVR against AdamW: {words}" in block
    assert f"| {words} |" in text
    assert outcome in text[text.index("## Conclusion") :]
    assert set(re.findall(r"\*\*(.*?)\*\*", text)) == ({words.strip("*")} if bold else set())


def test_the_verdict_block_carries_its_numbers() -> None:
    text = text_of(planted(0.05 + 0.01 * NOISE))
    line = next(line for line in text.splitlines() if line.startswith("> - GNVR"))
    assert "Δ = +5.00 points, 95% CI [4.46, 5.54]; 10 paired seeds; p < 0.001 (Holm, m = 1); MDE 0.75 points" in line


def test_numbers_in_the_text_stand_in_results_json(tmp_path: Path) -> None:
    text = render(planted(0.01 + 0.03 * NOISE), tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    rival, (baseline, gnvr) = results["rivals"][0], results["configurations"]
    accuracy, compared = gnvr["reruns"]["accuracy"], rival["verdict"]["comparison"]
    assert f"| {100 * accuracy['mean']:.2f}% ± {100 * accuracy['sd']:.2f}% [" in text
    assert f"{100 * compared['mean']:+.2f} [" in text.replace("−", "-")
    assert f"{compared['won']} of 10" in text and f"{compared['p_flip']:.2f}" in text
    assert baseline["tuning"]["range_positions"]["learning_rate"]["trials"] == 3
    assert gnvr["reruns"]["test_accuracy"]["1003"] == pytest.approx(0.54 + 0.03 * NOISE[3])
    assert results["study"]["digest"] in text and results["warnings"]
    for warning in results["warnings"]:
        assert f"> - {warning}." in text


def test_numbers_are_printed_like_the_write_ups() -> None:
    export, curves = synthetic_export(accuracies={"GNVR": [0.4609, 0.4955, 0.4782, 0.4782, 0.4782]})
    for row in rerun_rows(export, "GNVR"):
        row["setting"] = {"learning_rate": 7.94e-3, "weight_decay": 4.93e-3, "lambda": 0.026}
        row["result"]["train_loss"] = 0.509
    text = text_of(make_record(export, curves))
    assert "47.82% ± 1.22% [" in text
    assert "LR 7.94e-3, WD 4.93e-3, λ 0.026" in text
    assert "0.509 ± 0.000" in text
    assert "| GNVR | adamw | gnvr | 1e-4 to 0.01, log | 1e-6 to 0.1, log | λ 1e-3 to 10, log |" in text
    assert "| AdamW | adamw | none | 1e-4 to 0.01, log | 1e-6 to 0.1, log | – |" in text
    assert "- Fixed for every configuration: momentum 0.9.\n" in text
    assert "462 of the 2,560 training labels really differ" in text
    assert "MLP 40 → 256 → 256 → 10" in text and "label noise 20%" in text


def test_shares_do_not_differ_by_more_than_all_there_is() -> None:
    shares, losses = ACCURACY, ACCURACY._replace(share=False)
    assert [formatting.detectable(value, shares) for value in (0.0123, 1.0, 1.7)] == [
        "1.23 points",
        "100.00 points",
        "over 100 points",
    ]
    assert formatting.detectable(1.7, losses) == "1.70"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.3e-3, "1.30e-3"), (6.53e-5, "6.53e-5"), (0.026, "0.026"), (0.5, "0.5"), (-0.578, "−0.578"), (0, "0"),
     (1234, "1234"), (123456, "1.23e5"), (float("nan"), "–")],
)  # fmt: skip
def test_how_a_number_is_printed(value: float, shown: str) -> None:
    assert formatting.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0004, "< 0.001"), (0.0321, "= 0.032"), (0.8612, "= 0.86"), (1.0, "= 1.00")]
)
def test_how_a_probability_is_printed(value: float, shown: str) -> None:
    assert formatting.probability(value) == shown


def warnings_of(record: Record) -> str:
    text = text_of(record)
    return text[text.index("> Warnings:") : text.index("## Hypothesis")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "Conditional on one tuning run"),
        ({"seeds": 5}, "Fewer than 10 seeds (5)"),
        ({"tuning_epochs": 3}, "Tuned for 3 epochs, rerun for 6"),
        ({"score_epoch": "best"}, "best epoch, which flatters"),
        ({"finished_trials": 2}, "trials finished so far: AdamW 2 of 8, GNVR 2 of 8"),
        ({"finished_reruns": 3}, "reruns finished so far: AdamW 3 of 5, GNVR 3 of 5"),
    ],
)
def test_warnings_of_the_protocol(options: dict[str, Any], words: str) -> None:
    assert words in warnings_of(synthetic_record(**options))


def test_a_full_default_study_has_one_warning_only() -> None:
    warnings = warnings_of(synthetic_record(trials=30, seeds=12, tuning_runs=3))
    assert warnings.count("> - ") == 1 and "Fewer than 10 tuning runs (3)" in warnings


def test_warnings_of_losses() -> None:
    assert "GNVR: 1 rerun diverged (seed 1002)" in warnings_of(one_seed_diverged())
    told = "AdamW: 1 rerun failed for good (timeout × 2), so that seed 1003 left every pair."
    assert told in warnings_of(one_rerun_failed())
    failed = warnings_of(one_configuration_failed())
    assert "GNVR: tuning was given up, 8 trials failed for good (exception × 16)." in failed
    assert "seed 1000" not in failed and "Interim" not in failed
    assert "GNVR against AdamW: no verdict: tuning failed for GNVR." in text_of(one_configuration_failed())


def test_a_diverged_rerun_counts_with_the_accuracy_of_guessing(tmp_path: Path) -> None:
    text = render(one_seed_diverged(), tmp_path)
    assert "10.00% (diverged)" in text and "1 diverged rerun counted" in text
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["rivals"][0]["verdict"]["comparison"]["n"] == 5
    assert results["configurations"][1]["reruns"]["test_accuracy"]["1002"] == 0.1
    assert results["configurations"][1]["reruns"]["train_loss"]["n"] == 4


def test_a_diverged_rerun_of_an_unbounded_metric_forbids_a_verdict() -> None:
    assert "GNVR against AdamW: no verdict: 1 diverged" in text_of(one_seed_diverged(bounded=False))


def test_a_failed_rerun_leaves_its_pair() -> None:
    text = text_of(one_rerun_failed())
    assert "4 paired seeds" in text and "| 1003 | failed |" in text


def edge_record(value: float) -> Record:
    export, curves = synthetic_export(seeds=10)
    for row in export["slots"]:
        if row["configuration"] == "GNVR" and row["phase"] == "tune":
            row["setting"] = {**row["setting"], "lambda": value}
    return make_record(export, curves)


def test_edges_of_the_range_and_tuned_itself_off() -> None:
    off, high = warnings_of(edge_record(1.1e-3)), warnings_of(edge_record(9.0))
    assert "GNVR tuned itself off: lambda sits at the end of its range where it has no effect" in off
    assert "GNVR: lambda sits at the high end of its range (median place 0.99 of the best 3 trials)" in high


def test_unequal_budgets_and_notes_are_told() -> None:
    export, curves = synthetic_export()
    export["study"]["definition"]["configurations"][1]["trials"] = 20
    export["study"]["notes"] = [
        {"time": 1.0, "event": "seeds raised from 5 to 10 after a report"},
        {"time": 2.0, "event": "trials raised from 4 to 8"},
        {"time": 3.0, "event": "the code of study.model changed"},
    ]
    told = warnings_of(make_record(export, curves))
    assert "Unequal trial budgets: AdamW 8, GNVR 20" in told
    assert "Seeds raised from 5 to 10 after a report" in told and "The code of study.model changed" in told
    assert "rials raised" not in told


def test_only_the_newest_round_counts_and_the_readings_are_told(tmp_path: Path) -> None:
    export, curves = synthetic_export(accuracies={"GNVR": [0.5, 0.5, 0.5, 0.5, 0.5]})
    for row in rerun_rows(export, "GNVR"):
        newer = {**row, "id": row["id"] + 1000, "round": 1, "value": 0.7, "setting": {"learning_rate": 5e-4}}
        export["slots"].append(newer)
    text = render(make_record(export, curves), tmp_path)
    marked = pd.read_csv(tmp_path / "reruns.csv").groupby(["configuration", "round"])["superseded"].mean()
    assert marked.to_dict() == {("AdamW", 0): 0, ("GNVR", 0): 1, ("GNVR", 1): 0}
    kept = "; reruns of settings that were the best before are kept in reruns.csv and marked superseded\n"
    assert kept in text and kept not in text_of(synthetic_record())
    assert "70.00% ± 0.00%" in text and "50.00% ± 0.00%" not in text and "LR 5.00e-4" in text
    assert "The test set was read more than once: GNVR 2 times" in text
    assert "- The test set was read 2 times for GNVR." in text[text.index("## Limits") :]


def test_several_tuning_runs_are_paired_by_tuning_run(tmp_path: Path) -> None:
    baseline = 0.5 + 0.01 * np.arange(6)
    gains = np.array([0.05, 0.01, 0.03, 0.07, 0.01, 0.05])
    planted_values = {"AdamW": baseline.tolist(), "GNVR": (baseline + gains).tolist()}
    export, curves = synthetic_export(seeds=6, accuracies=planted_values)
    export["study"]["tuning_runs"] = 3
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["tuning_run"] = row["slot"] % 3
    render(make_record(export, curves), tmp_path)
    compared = json.loads((tmp_path / "results.json").read_text())["rivals"][0]["verdict"]["comparison"]
    assert compared["n"] == 3
    assert compared["mean"] == pytest.approx(np.mean([0.06, 0.01, 0.04]))
    assert compared["sd"] == pytest.approx(np.std([0.06, 0.01, 0.04], ddof=1))


def test_the_best_trial_follows_the_direction_and_breaks_ties(tmp_path: Path) -> None:
    for direction, best in (("maximize", 0.6), ("minimize", 0.2)):
        export, curves = synthetic_export(trials=4, direction=direction)
        trials = [row for row in export["slots"] if row["configuration"] == "GNVR" and row["phase"] == "tune"]
        losses = [1.0, 0.9, 0.9, 1.0]
        values = [0.6, best, best, 0.2] if direction == "maximize" else [0.6, best, best, 0.6]
        for row, value, loss in zip(trials, values, losses, strict=True):
            row["value"], row["result"]["validation_loss"] = value, loss
        render(make_record(export, curves), tmp_path)
        tuning = json.loads((tmp_path / "results.json").read_text())["configurations"][1]["tuning"]
        assert (tuning["best"][0]["slot"], tuning["best"][0]["score"]) == (1, best)


def test_the_authors_words_are_kept_below_the_reports_headings(tmp_path: Path) -> None:
    words = "# Mine\n\n## Smaller\n\n```\n# not a heading\n```\n<script>alert(1)</script>"
    text = render(synthetic_record(), tmp_path, analysis=words)
    analysis = text[text.index("## Analysis") : text.index("## Tuning")]
    assert "\n### Mine\n" in analysis and "\n#### Smaller\n" in analysis and "\n# not a heading\n" in analysis
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h3>Mine</h3>" in page and "<script>alert" not in page


def test_names_show_literally(tmp_path: Path) -> None:
    text = render(MOMENTS["odd names"](), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "a\\|b" in text and "<td" in page
    assert "a|b</t" in page and "&lt;b&gt;$x$&lt;/b&gt; *y* `z`" in page and "_c_[d](e)&amp;lt;" in page


@pytest.mark.parametrize("standalone", [False, True])
def test_the_page_needs_no_network_and_has_plotly_once(standalone: bool, tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "synthetic"
    write_report(synthetic_record(), folder, "synthetic", ["hpo run synthetic"], standalone=standalone)
    page = (folder / "report.html").read_text(encoding="utf-8")
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    shared = folder.parent / "plotly.min.js"
    assert shared.exists() != standalone and page.count("plotly.js v") == int(standalone)
    assert page.count('<script src="../plotly.min.js"></script>') == int(not standalone)
    assert standalone or "plotly.js v" in shared.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"?(https?:)?//", own)
    assert list(figures_of(page)) == [
        *("differences", "labels-fitted", "paired-slopes", "slices"),
        *("training-loss", "tuning-history", "validation-accuracy"),
    ]
    assert "Figure 8. Importances: they are shown from 50 finished trials of a configuration on; AdamW has 8" in page


def test_the_csv_files_hold_every_slot_and_epoch(tmp_path: Path) -> None:
    record = synthetic_record(trials=4, seeds=3, epochs=5)
    render(record, tmp_path)
    trials, reruns = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("trials", "reruns"))
    curves, of_reruns = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("trial_curves", "curves"))
    assert (len(trials), len(reruns), len(curves), len(of_reruns)) == (8, 6, 8 * 5, 6 * 5)
    assert (set(curves["phase"]), set(of_reruns["phase"])) == ({"tune"}, {"rerun"})
    assert reruns["value"].tolist() == pytest.approx(reruns["result/test_accuracy"].tolist())
    assert {"setting/learning_rate", "setting/lambda"} <= set(trials.columns)
    loss = record.curves[(record.curves.metric == "train_loss") & (record.curves.slot_id == 1)]["value"]
    assert curves["train_loss"][:5].tolist() == pytest.approx(loss.tolist())
    last = record.curves[(record.curves.metric == "train_loss") & (record.curves.slot_id == record.slots.id.max())]
    assert of_reruns["train_loss"][-5:].tolist() == pytest.approx(last["value"].tolist())


@pytest.mark.parametrize("reruns", [0, 1])
def test_the_csv_files_can_be_read_before_there_is_anything_in_them(reruns: int, tmp_path: Path) -> None:
    render(synthetic_record(finished_trials=8 * reruns, finished_reruns=0), tmp_path)
    trials, curves = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("trial_curves", "curves"))
    assert len(trials) == 96 * reruns and len(curves) == 0 and {"configuration", "epoch"} <= set(curves.columns)


def test_seeds_that_are_unevenly_spread_over_tuning_runs_are_told(tmp_path: Path) -> None:
    """As after tuning runs were raised: the mean is that of the runs' means, not of the seeds."""
    export, curves = synthetic_export(accuracies={"GNVR": [0.5, 0.5, 0.5, 0.6, 0.8]})
    export["study"]["tuning_runs"] = 3
    for row in export["slots"]:
        row["tuning_run"] = [0, 0, 0, 1, 2][row["slot"]] if row["phase"] == "rerun" else row["slot"] % 3
    text = render(make_record(export, curves), tmp_path)
    assert "spread over the tuning runs as 3, 1 and 1: verdicts compare the runs' means" in text
    assert "mean and interval are those of the means of the 3 tuning runs" in text
    assert "| GNVR | 5 | 63.33% ± " in text
    for row in export["slots"]:
        row["tuning_run"] = row["slot"] % 5
    export["study"]["tuning_runs"] = 5
    assert "spread over the tuning runs" not in text_of(make_record(export, curves))


def test_populations_are_told_where_they_differ() -> None:
    export, curves = synthetic_export()
    assert "side by side were" not in text_of(make_record(export, curves))
    for row in rerun_rows(export, "GNVR"):
        row["result"]["population"] = 2 + row["slot"] % 2
    assert "side by side were 2 and 3 models against 4, and smaller" in text_of(make_record(export, curves))


def test_the_table_of_spaces_keeps_what_differs() -> None:
    export, curves = synthetic_export(names=("AdamW", "GNVR", "SAM"))
    _, second, third = export["study"]["definition"]["configurations"]
    third["space"] = {"momentum": 0.8, "rho": 0.05, "theta": second["space"]["lambda"]}
    table = spaces(compute_numbers(make_record(export, curves)))
    assert table.header == ["configuration", "optimizer", "regularizer", "learning rate", "weight decay", "momentum",
                            "further"]  # fmt: skip
    assert [row[3:] for row in table.rows] == [
        ["1e-4 to 0.01, log", "1e-6 to 0.1, log", "0.9, fixed", "–"],
        ["1e-4 to 0.01, log", "1e-6 to 0.1, log", "0.9, fixed", "λ 1e-3 to 10, log"],
        ["–", "–", "0.8, fixed", "ρ 0.05, fixed; θ 1e-3 to 10, log"],
    ]


def test_a_report_needs_neither_torch_nor_scipy_stats() -> None:
    code = (
        "import hpo.report, sys; print([m for m in ('torch', 'scipy.stats', 'optuna', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
