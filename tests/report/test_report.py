"""Reports at every moment of a study: their structure, their files, and what never appears in them."""

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
from markdown_it import MarkdownIt
from report_text import section, text_of
from synthetic_record import synthetic_export, synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record, make_record
from hpo.analysis.study_comparison import WORDS
from hpo.cli.commands.report import print_verdicts
from hpo.report import wording, write_report
from hpo.report.analysis_tables import smoothness
from hpo.report.figure_plan import Figure, plan_figures
from hpo.report.latex import latex
from hpo.report.page import html, markdown
from hpo.report.report_page import report_page
from hpo.report.results_json import as_json, write_results
from hpo.report.summary import summarise
from hpo.report.tables import comparisons, results
from hpo.report.tuning_tables import spaces, tuning
from hpo.report.wording import verdict_lines
from tests.report.moments import MOMENTS, NOISE, numbers_of, planted, record_of, rows_of

FORBIDDEN = re.compile(r"promising|confirm|robust|significan", re.IGNORECASE)
FILES = [
    *("README.md", "curves.csv", "report.html", "reruns.csv", "results.json", "results.tex"),
    *("trial_curves.csv", "trials.csv"),
]
SECTIONS = ["Hypothesis", "Methodology", "Results", "Analysis", "Tuning", "Conclusion", "Limits", "Reproduce"]
TEMPLATES = Path(sys.modules[write_report.__module__].__file__ or "").parent / "templates"


def render(record: Record, folder: Path, analysis: str | None = None) -> str:
    path = write_report(record, folder, "synthetic", ["hpo run synthetic"], analysis)
    assert path == folder / "README.md"
    return path.read_text(encoding="utf-8")


def in_page_order(figures: list[Figure]) -> list[Figure]:
    """The differences stand beside the verdicts."""
    return sorted(figures, key=lambda figure: figure.number != 4)


def figures_of(page: str) -> dict[str, Any]:
    """The drawings in a page, by their slug."""
    script = re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)
    drawings: dict[str, Any] = json.loads(script[1], parse_constant=pytest.fail) if script else {}
    for slug in drawings:
        assert f'<div class="figure" id="{slug}">' in page
    return drawings


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_report_at_every_moment(moment: str) -> None:
    numbers = numbers_of(moment)
    figures = plan_figures(record_of(moment), numbers)
    page = report_page(numbers, figures, ["hpo run synthetic"], None)
    text, shown = markdown(page), html(page)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == re.findall(r"<h2 id=\"\w+\">(.*)</h2>", shown) == SECTIONS
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", text)
    assert not FORBIDDEN.search(text)
    assert not re.search(r"[−+-]0(\.0+)?(?![\d.e])", text), "zero has no sign"
    assert not re.search(r"\b1 (epochs|seeds|trials|reruns|points|configurations)\b", text)
    body = shown.split("<script>")[0]
    assert len(re.findall(r"^\|[-:|]+\|$", text, re.MULTILINE)) == body.count("<table>") >= 4
    header = next(line for line in text.splitlines() if line.startswith("| comparison"))
    cells = re.findall(r"(?<!\\)\|", header)
    assert len(cells) == body[body.index("<thead>") : body.index("</thead>")].count("<th ") + 1
    drawn = [figure for figure in figures if figure.chart is not None]
    assert re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text) == [figure.path for figure in in_page_order(drawn)]
    present = [str(figure.number) for figure in in_page_order(figures) if figure.applies]
    assert re.findall(r"^Figure (\d)\. \S", text, re.MULTILINE) == present
    assert {*"12346789"} >= {*present} - {"5"} >= {*"1234678"}
    assert sorted(figures_of(shown)) == sorted(figure.slug for figure in drawn)
    assert all(figure.caption.endswith(".") and figure.caption[0].islower() for figure in figures if not figure.chart)


@pytest.mark.parametrize("moment", ["finished", "one configuration failed", "nothing yet", "twelve configurations"])
def test_the_files_of_a_report(moment: str, rendered: Callable[[str], Path]) -> None:
    folder = rendered(moment)
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == FILES
    text = (folder / "README.md").read_text(encoding="utf-8")
    pngs = sorted(path.name for path in (folder / "figures").iterdir())
    assert pngs == sorted(re.findall(r"!\[[^\]]*\]\(figures/([^)]+)\)", text))
    json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("moment", ["finished", "one configuration failed", "nothing yet"])
def test_the_same_record_gives_the_same_bytes(moment: str, rendered: Callable[[str], Path], tmp_path: Path) -> None:
    render(MOMENTS[moment](), tmp_path)
    files = [path for path in rendered(moment).rglob("*") if path.is_file()]
    assert len(files) >= len(FILES)
    for path in files:
        assert path.read_bytes() == (tmp_path / path.relative_to(rendered(moment))).read_bytes(), path.name


def test_a_report_written_over_another_keeps_no_stale_figure(tmp_path: Path) -> None:
    render(synthetic_record(), tmp_path)
    assert list((tmp_path / "figures").iterdir())
    render(record_of("nothing yet"), tmp_path)
    assert not list((tmp_path / "figures").iterdir())


def test_no_template_or_sentence_claims_more_than_a_test() -> None:
    sources = [*TEMPLATES.iterdir(), *TEMPLATES.parent.glob("*.py")]
    assert len(sources) > 8
    for source in sources:
        assert not FORBIDDEN.search(source.read_text(encoding="utf-8")), source.name
    assert not any("**" in source.read_text(encoding="utf-8") for source in TEMPLATES.glob("*.md.jinja"))


# Differences, the verdict after as many tuning runs as seeds, and whether the prediction (better) held.
PLANTED = [
    (0.05 + 0.01 * NOISE, "**better**", "held"),
    (-0.05 + 0.01 * NOISE, "**worse**", "did not hold"),
    (0.004 + 0.0005 * NOISE, "**better, by less than the margin of 1 point**", "held"),
    (0.1 + 0.001 * NOISE[:4], "tentatively better", "undecided"),
    (0.001 * NOISE, "equivalent within ±1 point", "did not hold"),
    (0.03 * NOISE, "no detectable difference (smallest detectable: 2.26 points)", "undecided"),
    (0 * NOISE, "identical on every seed: check that the setting takes effect", "undecided"),
    (NOISE[:2], "no verdict: 2 paired tuning runs, 3 are needed", "undecided"),
]


@pytest.mark.parametrize("one_run", [False, True])
@pytest.mark.parametrize(("difference", "words", "outcome"), PLANTED)
def test_a_verdict_is_the_same_wherever_it_is_shown(
    difference: np.ndarray, words: str, outcome: str, one_run: bool
) -> None:
    """In the report, its page, LaTeX and JSON, and in the dashboard's note; after one tuning run it is tentative."""
    if one_run:
        plain = words.strip("*").removeprefix("tentatively ").replace("tuning run", "seed")
        words = plain if plain.startswith(("identical", "no verdict")) else f"tentatively {plain}"
        outcome = "undecided"
    record = planted(difference, tuning_runs=1 if one_run else len(difference))
    numbers = compute_numbers(record)
    text, note = text_of(record).replace("Planted differences are **found**.", ""), summarise(record).note
    for shown in (text, note):
        assert f"- GNVR against AdamW: {words}" in shown and f"| {words} |" in shown
        assert set(re.findall(r"\*\*(.*?)\*\*", shown)) == ({words.strip("*")} if "**" in words else set())
    [conclusion] = [line for line in section(text, "Conclusion").splitlines() if line]
    assert conclusion.startswith(f"- GNVR against AdamW: {words}. ")
    undecided = "is undecided" + ", since a tentative verdict decides no prediction" * words.startswith(
        ("tentatively better", "tentatively worse", "tentatively equivalent")
    )
    assert conclusion.endswith(f"{undecided if outcome == 'undecided' else outcome}.")
    page = html(report_page(numbers, [], [], None))
    assert "GNVR against AdamW: " + re.sub(r"[*][*](.*)[*][*]", r"<strong>\1</strong>", words) in page
    source = latex(numbers)
    assert words.strip("*").replace("±", r"$\pm$") in source and (r"\textbf" in source) == ("**" in words)
    rival = as_json(numbers)["rivals"][0]
    assert rival["outcome"] == outcome and rival["verdict"]["tentative"] == words.startswith("tentatively")
    assert rival["verdict"]["label"] == next(word for word in WORDS if words.strip("*").startswith(word))


def test_the_terminal_says_what_the_report_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tuning_runs, words in ((1, "tentatively better"), (10, "better")):
        numbers = compute_numbers(planted(0.05 + 0.01 * NOISE, tuning_runs=tuning_runs, trials=30))
        write_results({"verdicts": verdict_lines(numbers), **as_json(numbers)}, tmp_path)
        print_verdicts(tmp_path / "README.md")
        line = capsys.readouterr().out.splitlines()[0]
        assert line.startswith(f"GNVR against AdamW: {words}; Δ = +5.00 points")


@pytest.mark.parametrize(("arguments", "words"), [([], "Net, width 32"), ([4, 5], "Net, arguments 4 and 5, width 32")])
def test_a_model_is_described_with_what_it_was_made_with(arguments: list[int], words: str) -> None:
    assert wording.describe({"kind": "Net", "arguments": arguments, "width": 32}) == words


def test_the_number_of_parameters_and_of_untrained_ones_stands_with_the_model() -> None:
    export, curves = synthetic_export(names=("AdamW", "Muon", "Wide"))

    def line(counts: dict[str, tuple[int, int]]) -> str:
        for row in export["slots"]:
            if row["phase"] == "rerun":
                counted = counts[row["configuration"]]
                row["result"] |= dict(zip(("parameters", "untrained_parameters"), counted, strict=True))
        text = text_of(make_record(export, curves))
        return next(line for line in text.splitlines() if line.startswith("- Model: "))

    assert line(dict.fromkeys(("AdamW", "Muon", "Wide"), (78_346, 0))).endswith("; 78,346 parameters.")
    counts = {"AdamW": (78_346, 0), "Muon": (78_346, 1_290), "Wide": (100_000, 7)}
    words = "parameters: AdamW 78,346, Muon 78,346, Wide 100,000"
    assert line(counts).endswith(f"; {words}; not trained by any optimizer: 1,290 of Muon and 7 of Wide.")


def test_a_fixed_value_stands_in_the_results_and_in_the_files(tmp_path: Path) -> None:
    export, curves = synthetic_export(names=("AdamW", "SAM", "Fixed"), tuning_runs=3, seeds=6)
    _, sam, fixed = export["study"]["definition"]["configurations"]
    sam["space"] |= {"rho": 0.05}
    fixed["space"] = {"learning_rate": 0.01, "weight_decay": 0, "momentum": 0.9}
    for row in export["slots"]:
        row["setting"] = {} if row["configuration"] == "Fixed" else row["setting"]
    record = make_record(export, curves)
    cells = {row[0]: row[-1] for row in results(compute_numbers(record)).rows}
    assert cells == {
        "AdamW": "one per tuning run",
        "SAM": "one per tuning run; fixed: ρ 0.05",
        "Fixed": "fixed: LR 0.01, WD 0",
    }
    assert [row[-1] for row in smoothness(compute_numbers(record)).rows if row[0] == "Fixed"] == ["0.01"]
    [slices] = [figure for figure in plan_figures(record, compute_numbers(record)) if figure.number == 7]
    assert slices.caption.endswith("fixed: learning rate 0.01, weight decay 0 of Fixed.")
    [tuned] = [row for row in tuning(compute_numbers(record)).rows if row[0] == "Fixed"]
    assert "nothing is tuned" in tuned
    folder = write_report(record, tmp_path / "s", "s", []).parent
    for file, phase in (("trials.csv", "tune"), ("reruns.csv", "rerun")):
        table = pd.read_csv(folder / file)
        rows = {name: table[table["configuration"] == name] for name in cells}
        assert set(table["setting/momentum"]) == {0.9} and set(rows["SAM"]["setting/rho"]) == {0.05}
        assert rows["AdamW"]["setting/rho"].isna().all() and set(rows["Fixed"]["setting/learning_rate"]) == {0.01}
        kept = [row["setting"]["learning_rate"] for row in rows_of(export, "SAM", phase)]
        assert rows["SAM"]["setting/learning_rate"].tolist() == kept


def test_the_setting_to_use_is_named_with_what_chose_it() -> None:
    """The reruns of run 2 are the best against AdamW's, although the trials of run 3 have the best scores."""
    export, curves = synthetic_export(tuning_runs=3, seeds=6, trials=2)
    scores = {(run, slot): 0.1 * run + 0.01 * slot for run in range(3) for slot in range(2)}
    for row in rows_of(export, "GNVR", "tune"):
        row["value"] = scores[row["tuning_run"], row["slot"]]
        row["setting"] = {"learning_rate": 0.01 * (1 + row["slot"] + 10 * row["tuning_run"])}
    for name in ("AdamW", "GNVR"):
        for row in rows_of(export, name, "rerun"):
            row["result"]["validation_accuracy"] = 0.5 + 0.05 * (name == "GNVR" and row["tuning_run"] == 1)
    text = text_of(make_record(export, curves))
    assert "\n- GNVR: LR 0.12 (tuning run 2: +2.50 points).\n" in section(text, "Results")
    assert "(tuning run 1: 0.00 points)" in section(text, "Results"), "AdamW's runs 1 and 3 are equal"
    assert " | 0.00; +2.50; 0.00 | " in section(text, "Tuning") and " | 0.00; −2.50; 0.00 | " in section(text, "Tuning")
    assert "`hpo best" not in text_of(synthetic_record())


def test_without_label_noise_a_report_has_neither_figure_5_nor_its_column() -> None:
    for noise in (True, False):
        export, curves = synthetic_export(label_noise=noise)
        for row in () if noise else rows_of(export, "AdamW", "rerun"):
            row["result"]["changed_labels"] = 0
        record = make_record(export, curves)
        numbers = compute_numbers(record)
        text = markdown(report_page(numbers, plan_figures(record, numbers), [], None))
        assert ("noisy labels fitted" in text) == ("Figure 5." in text) == noise


def test_a_cosine_says_where_it_ends() -> None:
    for end in ({}, {"end": 0.1}):
        export, curves = synthetic_export()
        export["study"]["definition"]["schedule"] = {"kind": "Cosine", "warmup_epochs": 0.0, **end}
        words = f"Cosine, warmup epochs 0, end {end.get('end', 0)};"
        assert words in text_of(make_record(export, curves))


@pytest.mark.parametrize(("runs", "unit"), [(1, "seed"), (3, "tuning run")])
def test_the_pairs_are_the_same_in_the_methodology_and_in_the_results(runs: int, unit: str) -> None:
    text = text_of(synthetic_record(tuning_runs=runs, seeds=6))
    assert re.findall(r"pair the configurations by (seed|tuning run)", text) == [unit]
    assert re.findall(r"^T2\..* paired by (seed|tuning run)\.", text, re.MULTILINE) == [unit]


def test_the_smallest_detectable_difference_is_told_where_none_was_detected() -> None:
    for difference, told in ((0.05 + 0.01 * NOISE, False), (NOISE / 10, True)):
        [line] = verdict_lines(numbers := compute_numbers(planted(difference, tuning_runs=len(difference))))
        [row] = comparisons(numbers).rows
        assert ("smallest detectable" in line) == (row[-2] != "–") == told and "MDE" not in line


def test_a_configuration_without_a_measured_time_has_the_command_that_measures_it() -> None:
    row = {"population": 1, "ms": 1.0, "ratio": 1.0, "low": 1.0, "high": 1.0}
    rows = [{"configuration": name, **row} for name in ("AdamW", "GNVR")]
    times = {"device": "a CPU", "threads": 1, "time": 1.79e9, "rows": rows}
    sentence = "SAM came into the study later: with all configurations in the study file, `hpo bench study synthetic`"
    for names, said in ((("AdamW", "GNVR", "SAM"), True), (("AdamW", "GNVR"), False)):
        record = synthetic_record(names=names)
        assert (sentence in text_of(record._replace(study={**record.study, "step_times": times}))) == said


def test_a_diverged_rerun_counts_with_the_accuracy_of_guessing() -> None:
    numbers = numbers_of("one seed diverged")
    reruns, verdict = numbers.configurations[1].reruns, numbers.rivals[0].verdict
    assert (verdict.comparison.n, verdict.diverged) == (5, 1)
    accuracies = reruns.test_metrics["test_accuracy"]
    assert accuracies == reruns.metric_values and accuracies[1002] == 0.1
    assert (reruns.metric_summary.n, reruns.train_loss.n) == (5, 4)


def test_only_the_newest_round_counts_and_the_others_are_marked(rendered: Callable[[str], Path]) -> None:
    reruns = pd.read_csv(rendered("two rounds of reruns") / "reruns.csv")
    marked = reruns.groupby(["configuration", "round"])["superseded"].mean()
    assert marked.to_dict() == {("AdamW", 1): 0, ("GNVR", 1): 1, ("GNVR", 2): 0}
    newest = numbers_of("two rounds of reruns").configurations[1].reruns
    assert newest.metric_summary.mean == pytest.approx(0.7) and newest.rounds_read == 2


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.6), ("minimize", 0.2)])
def test_the_best_trial_follows_the_direction_and_breaks_ties(direction: str, best: float) -> None:
    export, curves = synthetic_export(trials=4, direction=direction)
    other = 0.2 if direction == "maximize" else 0.6
    for row, value, loss in zip(
        rows_of(export, "GNVR", "tune"), [0.6, best, best, other], [1.0, 0.9, 0.9, 1.0], strict=True
    ):
        row["value"], row["result"]["validation_loss"] = value, loss
    [trial] = compute_numbers(make_record(export, curves)).configurations[1].tuning.best
    assert (trial.number, trial.score) == (2, best)


def test_the_authors_words_are_kept_below_the_reports_headings(tmp_path: Path) -> None:
    words = "# Mine\n\n## Smaller\n\n```\n# not a heading\n```\n<script>alert(1)</script>"
    analysis = section(render(synthetic_record(), tmp_path, analysis=words), "Analysis")
    assert "\n### Mine\n" in analysis and "\n#### Smaller\n" in analysis and "\n# not a heading\n" in analysis
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h3>Mine</h3>" in page and "<script>alert" not in page


def test_names_show_literally(rendered: Callable[[str], Path]) -> None:
    page = (rendered("odd names") / "report.html").read_text(encoding="utf-8")
    assert "a|b</t" in page and "&lt;b&gt;$x$&lt;/b&gt; *y* `z`" in page and "_c_[d](e)&amp;lt;" in page


@pytest.mark.parametrize("name", ["1. SAM", "2) SAM", "- SAM", "+ SAM", "-5", "1.5 SAM", "GNVR 1.", "a|b_c *50%*"])
def test_any_name_stands_in_a_list_as_it_is(name: str) -> None:
    assert MarkdownIt().render(f"- {wording.escape(name)} ahead") == f"<ul>\n<li>{name} ahead</li>\n</ul>\n"


def test_the_csv_files_hold_every_slot_and_epoch(tmp_path: Path) -> None:
    record = synthetic_record(trials=4, seeds=3, epochs=5)
    render(record, tmp_path)
    names = ("trials", "reruns", "trial_curves", "curves")
    trials, reruns, trial_curves, curves = (pd.read_csv(tmp_path / f"{name}.csv") for name in names)
    assert (len(trials), len(reruns), len(trial_curves), len(curves)) == (8, 6, 8 * 5, 6 * 5)
    assert (set(trial_curves["phase"]), set(curves["phase"])) == ({"trial"}, {"rerun"})
    assert reruns["value"].tolist() == pytest.approx(reruns["result/test_accuracy"].tolist())
    assert {"setting/learning_rate", "setting/lambda"} <= set(trials.columns)
    losses = record.curves[record.curves.metric == "train_loss"].groupby("slot_id")["value"].apply(list)
    assert trial_curves["train_loss"][:5].tolist() == pytest.approx(losses[1])
    assert curves["train_loss"][-5:].tolist() == pytest.approx(losses[record.slots.id.max()])


@pytest.mark.parametrize(("moment", "rows"), [("nothing yet", 0), ("tuned, no reruns", 96)])
def test_the_csv_files_can_be_read_before_there_is_anything_in_them(
    moment: str, rows: int, rendered: Callable[[str], Path]
) -> None:
    trials, curves = (pd.read_csv(rendered(moment) / f"{name}.csv") for name in ("trial_curves", "curves"))
    assert len(trials) == rows and len(curves) == 0 and {"configuration", "epoch"} <= set(curves.columns)


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


def test_a_missed_difference_is_possible_where_the_smallest_detectable_one_is_above_the_margin() -> None:
    noise = np.array([-0.05, 0.01, 0.04, -0.02, 0.02])
    accuracies = {"AdamW": [0.5] * 5, "GNVR": (0.5 + noise).tolist(), "SAM": (0.5 + noise / 1000).tolist()}
    numbers = compute_numbers(synthetic_record(names=("AdamW", "GNVR", "SAM"), seeds=5, accuracies=accuracies))
    mdes = {rival.name: rival.verdict.comparison.mde for rival in numbers.rivals}
    assert mdes["SAM"] < numbers.definition["margin"] == 0.01 < mdes["GNVR"]
    assert report_page(numbers, [], [], None).values["undetectable"] == ["GNVR"]


def test_a_report_needs_neither_torch_nor_scipy_stats() -> None:
    code = (
        "import hpo.report, sys; print([m for m in ('torch', 'scipy.stats', 'optuna', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
