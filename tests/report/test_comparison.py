"""Several studies on one page: each with verdicts from its own numbers, and performance profiles over all."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import Browser
from report_text import section
from report_text import text_of as report_text
from synthetic_record import diverge, fail, synthetic_export, synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.analysis.performance_profiles import TimeToTarget, performance_profiles, profile_steps, time_to_target
from hpo.analysis.study_comparison import StudyComparison, compare_studies
from hpo.report import Record, make_record, write_comparison
from hpo.report.comparison_page import _figures, _page
from hpo.report.figures.forest_grid import ForestGrid
from hpo.report.page import html, markdown
from hpo.report.wording import verdict_lines
from tests.report.moments import MOMENTS, record_of
from tests.report.test_report import FORBIDDEN

NAMES = ("AdamW", "GNVR", "SAM")
NOISE = np.array([-1.2, 0.4, 0.9, -0.3, 0.6, -0.8])


def named(record: Record, name: str) -> Record:
    study_row = {"name": name, "digest": name, "text": {**record.study["text"], "title": name}}
    return record._replace(study={**record.study, **study_row})


def study(
    name: str, shift: float = 0.0, names: tuple[str, ...] = NAMES, tuning_runs: int = 6, **options: Any
) -> Record:
    """A study of six seeds, one for each tuning run, in which GNVR is ahead of the baseline by `shift`."""
    baseline = 0.5 + 0.01 * np.arange(6)
    accuracies = {names[0]: baseline.tolist(), "GNVR": (baseline + shift + 0.002 * NOISE).tolist()}
    options = {"trials": 3, "epochs": 3, "draw": ord(name[-1]), **options}
    return named(
        synthetic_record(names=names, seeds=6, tuning_runs=tuning_runs, accuracies=accuracies, **options), name
    )


def text_of(*records: Record) -> str:
    """README.md, without writing it and drawing its figures."""
    comparison = compare_studies(records)
    return markdown(_page(comparison, list(_figures(comparison)), Path("nowhere"), "hpo report a b --compare"))


def write(tmp_path: Path, *records: Record) -> Path:
    """The folder of a comparison."""
    return write_comparison(records, tmp_path / "reports" / "compare-x", "hpo report a b --compare").parent


def record_of_times(times: dict[str, list[float | None]], direction: str = "maximize") -> Record:
    """A study of six epochs in which seed i of a configuration scores 0.5 from the epoch times[name][i] on.

    None: it diverges; infinity: it never does.
    """
    count = len(next(iter(times.values())))
    export, curves = synthetic_export(names=tuple(times), seeds=count, direction=direction)
    metric = "validation_accuracy" if direction == "maximize" else "validation_loss"
    reruns = {row["id"]: row for row in export["slots"] if row["phase"] == "rerun"}
    for index, (slot, epoch, name) in enumerate(zip(curves["slot_id"], curves["epoch"], curves["metric"], strict=True)):
        if slot in reruns and name == metric:
            begins = times[reruns[slot]["configuration"]][reruns[slot]["slot"]]
            reached = begins is not None and epoch >= begins
            curves["value"][index] = 0.5 if reached == (direction == "maximize") else 0.9 if reached else 0.1
            if direction == "minimize":
                curves["value"][index] = 0.5 if reached else 0.9
    for row in reruns.values():
        if times[row["configuration"]][row["slot"]] is None:
            diverge(row, curves, epoch=3)
    return make_record(export, curves)


def time_of(times: dict[str, list[float | None]], direction: str = "maximize") -> TimeToTarget:
    record = record_of_times(times, direction)
    time = time_to_target(record, compute_numbers(record), list(times))
    assert time is not None
    return time


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_time_is_the_lower_median_of_the_first_epochs_at_the_target(direction: str) -> None:
    time = time_of({"A": [4, 2, 6], "B": [1, 1, 3], "C": [math.inf, 5, math.inf]}, direction)
    assert time.target == 0.5
    assert time.epochs == {"A": 4.0, "B": 1.0, "C": math.inf}
    assert time.ratios == {"A": 4.0, "B": 1.0, "C": math.inf}
    assert time_of({"A": [2, 4], "B": [3, 3]}, direction).epochs == {"A": 2.0, "B": 3.0}


def test_ties_share_the_first_place() -> None:
    assert time_of({"A": [3, 3, 3], "B": [3, 3, 3], "C": [6, 6, 6]}).ratios == {"A": 1.0, "B": 1.0, "C": 2.0}


def test_diverged_and_failed_reruns_take_infinitely_long() -> None:
    time = time_of({"A": [2, 2, 2], "B": [1, None, None]})
    assert time.epochs == {"A": 2.0, "B": math.inf}
    export, curves = synthetic_export()
    reruns = [row for row in export["slots"] if row["phase"] == "rerun" and row["configuration"] == "GNVR"]
    for row in reruns[:3]:
        fail(export, row)
    record = make_record(export, curves)
    lost = time_to_target(record, compute_numbers(record), ["AdamW", "GNVR"])
    assert lost is not None and lost.epochs["GNVR"] == math.inf


def test_the_profile_by_hand() -> None:
    times = [
        TimeToTarget("a", "s", 0.5, {}, {"A": 1.0, "B": 1.5, "C": math.inf}),
        TimeToTarget("b", "s", 0.5, {}, {"A": 2.0, "B": 1.0, "C": math.inf}),
        TimeToTarget("c", "s", 0.5, {}, {"A": 1.0, "B": 5.0, "C": math.inf}),
        TimeToTarget("d", "s", 0.5, {}, {"A": math.inf, "B": math.inf, "C": math.inf}),
    ]
    a, b, c = performance_profiles(times, ["A", "B", "C"])
    assert a.shares == [(1.0, 0.5), (1.5, 0.5), (2.0, 0.75), (4.0, 0.75)]
    assert b.shares == [(1.0, 0.25), (1.5, 0.5), (2.0, 0.5), (4.0, 0.5)]
    assert c.shares == [(limit, 0.0) for limit in (1.0, 1.5, 2.0, 4.0)]
    assert a.score == pytest.approx((0.5 * 1 + 0.75 * 2) / 3)
    assert b.score == pytest.approx((0.25 * 0.5 + 0.5 * 2.5) / 3) and c.score == 0.0
    drawn = profile_steps([a, b, c])
    assert drawn[drawn.configuration == "A"][["ratio", "share"]].values.tolist() == [[1, 0.5], [2, 0.75], [4, 0.75]]
    grid = np.linspace(1, 4, 30_001)[:-1]
    for entry in (a, b, c):
        height = np.mean([[ratio <= at for at in grid] for ratio in entry.ratios.values()])
        assert entry.score == pytest.approx(height, abs=1e-3), "the area, slowly"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_page_for_one_study_or_many(count: int, tmp_path: Path) -> None:
    records = [study(f"s{number}", 0.05 if number % 2 else 0.0) for number in range(count)]
    folder = write(tmp_path, *records)
    text = (folder / "README.md").read_text(encoding="utf-8")
    intro, bound = text.splitlines()[2], f"over the {count} studies together that chance is at most {5 * count}%."
    assert (bound in intro) == (count > 1) and text.startswith("# s0\n") == (count == 1)
    for record in records:
        for line in verdict_lines(compute_numbers(record)):
            assert f"- {line}\n" in text, "each study's verdict is the one of its own report"
    assert f"compare 3 configurations over {count} stud{'y' if count == 1 else 'ies'} and" in text
    assert not re.search(r"\b1 (studies|configurations)\b|\b(nan|None|inf)\b", text)
    results = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert len(results["studies"]) == count and len(results["profiles"]) == 3


def test_the_tables_hold_each_studys_own_numbers() -> None:
    text = text_of(study("a", 0.05), study("b", -0.05), study("c"))
    row = next(line for line in text.splitlines() if line.startswith("| GNVR | +"))
    cells = [re.sub(r" \[[^]]*\]", "", cell) for cell in row.split(" | ")]
    assert cells[:3] == ["| GNVR", "+4.99 points: **better**", "−5.01 points: **worse**"]
    assert "equivalent within ±1 point" in cells[3]
    assert "| configuration | verdicts | better | equivalent | worse |" in text
    assert "| GNVR | 3 | 1 | 1 | 1 |" in text and "tentatively" not in text
    assert "| AdamW | baseline | baseline | baseline |" in text
    assert "- Every configuration is in every study, with the same definition.\n" in text
    for entry in compare_studies([study("a", 0.05), study("b", -0.05), study("c")]).profiles:
        shares = " | ".join(f"{share:.0%}" for _, share in entry.shares)
        assert f"| {entry.name} | {shares} | {entry.score:.3f} |" in text


def test_equal_differences_have_no_interval() -> None:
    same = {name: [0.5, 0.6, 0.7] for name in NAMES}
    text = text_of(named(synthetic_record(names=NAMES, seeds=3, accuracies=same, trials=3, epochs=3), "a"))
    assert "| GNVR | 0.00 points: identical on every seed" in text


def test_tentative_verdicts_are_counted_separately() -> None:
    records = [study("a", 0.05), *(study(f"one run {shift}", shift, tuning_runs=1) for shift in (0.05, -0.05, 0.0))]
    text = text_of(*records)
    row = next(line for line in text.splitlines() if line.startswith("| GNVR | +"))
    words = [re.sub(r".*: | \|$", "", cell) for cell in row.split(" | ")[1:]]
    tentative = ["tentatively better", "tentatively worse", "tentatively equivalent within ±1 point"]
    assert words == ["**better**", *tentative]
    assert "| configuration | verdicts | better | tentatively better |" in text
    overall = {entry.name: entry.words for entry in compare_studies(records).overall}
    assert {word: count for word, count in overall["GNVR"].items() if count} == dict.fromkeys(
        ("better", "tentatively better", "tentatively worse", "tentatively equivalent"), 1
    )
    assert "one tuning run, this holds for" in text and "one tuning run, this" not in text_of(study("a"), study("b"))


def test_differences_between_studies_are_named() -> None:
    other = study("b", names=("SGD", "GNVR", "AdamW"), direction="minimize")
    text = text_of(study("a", names=("AdamW", "GNVR")), other)
    notes = section(text, "Overall").split("A1.")[0]
    assert "- SGD is not in a.\n" in notes
    assert "- AdamW is not the same configuration in a and b: the regularizer and search space differ.\n" in notes
    assert "2 different baselines: AdamW and SGD.\n" in notes
    assert "2 different metrics: test accuracy and test loss.\n" in notes
    assert "The profiles compare 2 configurations over 2 studies" in text
    assert "| SGD | – | 1.50 ± 0.00 (n = 6) |" in text
    third = study("c", names=("AdamW", "GNVR", "ROGC", "SAM"))
    assert "- ROGC and SAM are not in a.\n" in text_of(study("a", names=("AdamW", "GNVR")), third)


def test_studies_with_one_definition_are_not_taken_for_several() -> None:
    first, other, again = study("a"), study("b"), study("c")
    again = again._replace(study={**again.study, "digest": first.study["digest"]})
    assert compare_studies([first, other, again]).same_definition == [["a", "c"]]
    assert "- a and c have the same definition" in text_of(first, other, again)
    assert "have the same definition" not in text_of(first, other)


def test_verdicts_and_warnings_of_a_study_are_one_tight_list() -> None:
    lists = re.findall(r"(?:^- .+\n)+", section(text_of(study("a"), study("b")), "Verdicts"), re.MULTILINE)
    assert len(lists) == 2 and all("against" in lines and "- Warning: " in lines for lines in lists)


@pytest.mark.parametrize(("names", "shared"), [(("SGD", "SAM"), "no"), (("SGD", "GNVR"), "only one")])
def test_without_shared_configurations_there_are_no_profiles(names: tuple[str, ...], shared: str) -> None:
    text = text_of(study("a", names=("AdamW", "GNVR")), study("b", names=names))
    assert f"There are none: {shared} configuration is in every study." in text and "2-performance" not in text


def test_a_study_under_way_is_left_out_of_the_profiles(tmp_path: Path) -> None:
    young = study("b", finished_reruns=0)
    text = (write(tmp_path, study("a"), young) / "README.md").read_text(encoding="utf-8")
    assert "- b is left out of the profiles: not every configuration has been rerun there.\n" in text
    assert "compare 3 configurations over 1 study and" in text
    folder = write(tmp_path, young)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "There are none yet: in no study can" in text and "![" not in text
    assert not list((folder / "figures").iterdir()), "an earlier picture is deleted"


@pytest.mark.parametrize("moment", [name for name in MOMENTS if "hundred" not in name and "fifty" not in name])
def test_a_comparison_at_every_moment(moment: str) -> None:
    comparison = compare_studies([study("a", names=("AdamW", "GNVR")), named(record_of(moment), "b")])
    page = _page(comparison, list(_figures(comparison)), Path("nowhere"), "")
    text = markdown(page)
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", text) and not FORBIDDEN.search(text)
    assert "- GNVR against AdamW: equivalent within ±1 point" in text
    assert len(re.findall(r"^\|[-:|]+\|$", text, re.MULTILINE)) == html(page).count("<table>")


def with_diagnostics(record: Record, scale: float) -> Record:
    """The record with sharpness measured in its reruns."""
    slots = record.slots.copy()
    slots["result"] = [
        {**result, "sharpness": scale * (1 + seed % 5)} if phase == "rerun" and result else result
        for result, phase, seed in zip(slots["result"], slots["phase"], slots["seed"], strict=True)
    ]
    return record._replace(slots=slots)


def test_the_tables_of_effort_and_sharpness_are_those_of_the_studies_own_pages() -> None:
    records = [
        with_diagnostics(study("a", trials=12), 0.1),
        with_diagnostics(study("b", 0.05, trials=12), 0.3),
        study("c"),
    ]
    page = section(text_of(*records), "Analysis")
    parts = [section.split("\n\n") for section in re.split(r"^A[678]\. ", page, flags=re.MULTILINE)[1:]]
    assert len(parts) == 3
    for caption, (number, shown) in zip(parts, (("T12.", "abc"), ("T11.", "abc"), ("T10.", "ab")), strict=True):
        tables = dict(re.findall(r"Study (\w):\n\n((?:\|.*\n)+)", "\n\n".join(caption)))
        assert "".join(tables) == shown
        for record in records[: len(shown)]:
            own = report_text(record).split(f"\n{number} ")[1]
            [table, *_] = re.findall(r"(?:^\|.*\n)+", own, re.MULTILINE)
            assert tables[record.study["name"]] == table


def test_a_comparison_of_studies_that_are_not_tuned_yet_has_no_tables_of_effort() -> None:
    young = named(synthetic_record(finished_trials=0, seeds=6), "young")
    text = text_of(young)
    assert "## Analysis" not in text and "A6." not in text


def test_nothing_is_pooled() -> None:
    comparison = compare_studies([study("a", 0.05), study("b", 0.05)])
    assert StudyComparison._fields == (
        *("studies", "overall", "planned", "shared", "error_bound", "same_definition", "same_data", "same_runs"),
        *("times_to_target", "left_out", "profiles"),
    )
    assert comparison.error_bound == pytest.approx(0.1) and comparison.overall[1].words["better"] == 2
    tiny = synthetic_record(seeds=1, trials=1, epochs=1)
    assert compare_studies([named(tiny, f"s{number}") for number in range(25)]).error_bound == 1.0


def test_the_differences_of_all_studies_are_one_picture(tmp_path: Path) -> None:
    folder = write(tmp_path, study("a"), study("b", 0.05, names=("AdamW", "GNVR")))
    text, names = (folder / "README.md").read_text(encoding="utf-8"), ["1-differences", "2-performance-profiles"]
    assert re.findall(r"!\[.*\]\(figures/(.*)\.png\)\n\nFigure (\d)\. ", text) == list(zip(names, "12", strict=True))
    assert sorted(path.stem for path in (folder / "figures").iterdir()) == names
    write(tmp_path, study("a", names=("AdamW", "GNVR")), study("c", names=("Adam", "SAM")))
    assert [path.stem for path in (folder / "figures").iterdir()] == names[:1]


def test_the_caption_names_what_is_left_out_and_panels_share_an_axis_where_none_is_flattened() -> None:
    young = named(synthetic_record(seeds=6, finished_reruns=1), "young")
    assert "no interval yet: young." in text_of(study("a"), young)
    wide = {"AdamW": [0.1, 0.9, 0.1, 0.9, 0.1, 0.9], "GNVR": [0.9, 0.1, 0.9, 0.1, 0.5, 0.5]}
    other = named(synthetic_record(seeds=6, accuracies=wide), "wide")
    for record, one_axis in ((other, False), (study("b", 0.01), True)):
        chart = next(_figures(compare_studies([study("a"), record]))).chart
        assert isinstance(chart, ForestGrid) and chart.one_axis == one_axis


def test_studies_on_the_same_data_are_named() -> None:
    other = study("b", names=("SAM", "GNVR"))
    assert "- a and b differ only in their configurations: " in text_of(study("a"), other)
    definition = {**other.study["definition"], "batch_size": 7}
    changed = other._replace(study={**other.study, "definition": definition})
    assert "differ only in" not in text_of(study("a"), changed)


def merged(target: Record, source: Record, name: str, configuration: str) -> Record:
    """The first study with a configuration of the second and all of its runs, as `hpo merge` makes it."""
    entries = [each for each in source.study["definition"]["configurations"] if each["name"] == configuration]
    old = target.study["definition"]
    definition = {**old, "configurations": [*old["configurations"], *entries]}
    runs = source.slots[source.slots.configuration == configuration].copy()
    curves = source.curves[source.curves.slot_id.isin(runs.id)].copy()
    runs["id"], curves["slot_id"] = runs.id + 10_000, curves.slot_id + 10_000
    both = [pd.concat(frames, ignore_index=True) for frames in ((target.slots, runs), (target.curves, curves))]
    study_row = {**target.study, "definition": definition, "name": name, "digest": name}
    return target._replace(study=study_row, slots=both[0], curves=both[1])


def test_runs_that_two_studies_share_by_a_merge_are_counted_once_and_said_to_be_the_same() -> None:
    other = study("b", 0.05, names=("AdamW", "GNVR"))
    one = merged(study("a", names=("AdamW", "SAM")), other, "a", "GNVR")
    comparison = compare_studies([one, other])
    assert [tuple(same) for same in comparison.same_runs] == [("GNVR", ["a", "b"])]
    counts = {entry.name: sum(entry.words.values()) for entry in comparison.overall}
    assert counts == {"AdamW": 0, "SAM": 1, "GNVR": 1}, "two verdicts of the same GNVR runs count once"
    notes = section(text_of(one, other), "Overall")
    assert "- The runs of GNVR are the same ones in a and b " in notes
    assert "- a and b differ only in their configurations: AdamW was tuned and rerun in several" in notes
    apart = compare_studies([study("a", names=("AdamW", "GNVR")), other])
    assert not apart.same_runs and sum(apart.overall[1].words.values()) == 2


def test_a_copy_of_a_study_counts_once() -> None:
    first, other = study("a"), study("b")
    copy = first._replace(study={**first.study, "name": "c"})
    comparison = compare_studies([first, other, copy])
    assert [same.studies for same in comparison.same_runs] == [["a", "c"]] * 3
    assert [sum(entry.words.values()) for entry in comparison.overall] == [0, 2, 2]
    assert [time.study for time in comparison.times_to_target] == ["a", "b"]
    assert comparison.left_out == {"c": "its runs are those of a"}
    assert "have the same definition" not in text_of(first, other, copy)
    assert "tuned and rerun in several" in text_of(first, other)


def test_the_same_studies_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (write(tmp_path / name, study("a"), study("b", 0.05)) for name in ("one", "two"))
    files = [path for path in one.rglob("*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes(), path.name


def test_the_profiles_are_drawn(tmp_path: Path, browser: Browser) -> None:
    folder = write(tmp_path, study("a"), study("b", 0.05))
    with browser.tab(width=400) as tab:
        tab.open(folder / "report.html")
        tab.page.wait_for_selector("#performance-profiles .main-svg")
        titles = tab.page.locator("#differences .main-svg .xtitle, #differences .main-svg .x2title")
        assert titles.all_text_contents() == ["a: Δ in points", "b: Δ in points"]
        assert not tab.strays((folder.parent / "plotly.min.js").as_uri()) and not tab.errors
        assert tab.overflow() <= 0
