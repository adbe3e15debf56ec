"""Warnings: when there is one, about whom and with which numbers; the golden files hold the sentences."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from report_text import text_of
from synthetic_record import diverge, synthetic_export, synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import make_record
from hpo.report.figure_plan import plan_figures
from hpo.report.figures.history import History
from hpo.report.summary import summarise
from hpo.report.tuning_tables import tuning
from hpo.report.warnings import few_trials, find_warnings
from tests.report.moments import numbers_of, rows_of


def new_warnings(moment: str) -> list[str]:
    """Those that a finished study without losses does not have."""
    usual = find_warnings(numbers_of("finished"))
    return [warning for warning in find_warnings(numbers_of(moment)) if warning not in usual]


@pytest.mark.parametrize(
    ("moment", "patterns"),
    [
        ("half-way tuning", [r"AdamW 3 of 8, GNVR 3 of 8", r"AdamW 0 of 5, GNVR 0 of 5"]),
        ("one rerun failed", [r"^AdamW: 1 rerun .*timeout × 2.*seed 1003"]),
        ("one seed diverged", [r"^GNVR: 1 rerun .*seed 1002"]),
        ("every trial of one configuration diverged", [r"^GNVR: all trials diverged"]),
        ("one configuration failed", [r"^GNVR: tuning was stopped.* 8 trials .*exception × 16", r"^Few trials"]),
        ("two tuning runs", [r"^Only 2 tuning runs"]),
        ("two rounds of reruns", [r"GNVR 2 times"]),
        ("pruned trials are all there is", [r"^AdamW: .*pruned", r"^Trials were pruned", r"AdamW 40, GNVR 48"]),
        ("pruned", [r"^Trials were pruned", r"AdamW 36, GNVR 32"]),
        (
            "every cause of failure",
            [
                r"^GNVR: .*out of memory × 1, exception × 2, lost worker × 3, timeout × 4", r"^GNVR: 1 of 8 trials",
                r"^GNVR: 1 rerun .*seed 1000", r"^GNVR: 1 rerun .*lost worker × 2.*seed 1001",
                r"^ROGC: .*timeout × 1", r"^Few trials",
            ],
        ),
        (
            "without scores",
            [r"^AdamW: .* 2 of 8 trials", r"^GNVR: no trial has a finite score", r"^GNVR: test loss .* 1 rerun .*1000"],
        ),
        (
            "at the edges",
            [
                r"^Interim: .*GNVR 8 of 20\b", r"^GNVR tuned itself off: lambda .*0\.01, 3 of the best 3 ",
                r"^ROGC: lambda .*high end.*0\.99, 3 of the best 3 ", r"^Unequal.* AdamW 8, GNVR 20, ROGC 8",
                r"^Few trials",
                r"^Tuned for 3 epochs, rerun for 6", r"best epoch",
            ],
        ),
        (
            "chosen at the edges",
            [
                r"^GNVR: 5 of the 10 .* weight decay .*low end",
                r"^GNVR tuned itself off in some .* 5 of the 10 .*lambda",
                r"^ROGC: 10 of the 10 .* learning rate .*high end", r"^Few trials",
            ],
        ),
        (
            "custom metric, one seed diverged",
            [
                r"^AdamW: test size .* 1 rerun .*seed 1003", r"^GNVR: 1 rerun .*seed 1001",
                r"^GNVR: test size .* 1 rerun .*seed 1003", r"^SAM: test size .* 1 rerun .*seed 1003",
                r"^SAM: 1 rerun .*seed 1002", r"^Few trials", r"^Seeds raised from 3 to 5",
                r"^The code of study\.model changed",
            ],
        ),
    ],
)  # fmt: skip
def test_a_loss_has_a_warning_that_names_it(moment: str, patterns: list[str]) -> None:
    warnings = new_warnings(moment)
    assert len(warnings) == len(patterns), warnings
    for pattern, warning in zip(patterns, warnings, strict=True):
        assert re.search(pattern, warning)


def lost_tuning_runs() -> dict[str, Any]:
    """GNVR, three tuning runs: all trials of the second diverged, and of the third some were pruned before."""
    export, curves = synthetic_export(seeds=6, tuning_runs=3, pruner={"kind": "Median"})
    for row in rows_of(export, "GNVR", "tune"):
        if row["tuning_run"] == 2 and row["slot"] < 2:
            row |= {"cause": "pruned", "value": 0.9}
        elif row["tuning_run"] == 2 and row["slot"] < 4:
            row |= {"cause": "without a finite score", "value": None}
        elif row["tuning_run"] > 0:
            diverge(row, curves)
    return {"export": export, "curves": curves}


def test_a_tuning_run_without_a_full_length_score_is_named_and_keeps_its_place() -> None:
    numbers = compute_numbers(make_record(**lost_tuning_runs()))
    first, second, *others = [line for line in find_warnings(numbers) if line.startswith("GNVR")]
    assert re.search(r"trials of tuning run 2 diverged; its setting was chosen arbitrarily", first)
    assert re.search(r"trial of tuning run 3 .*its setting is that of a pruned trial", second)
    assert [line.split(": ")[1] for line in others] == [
        "12 of 24 trials diverged",
        "the score of 2 of 24 trials is not finite",
    ]
    [row] = [row for row in tuning(numbers).rows if row[0] == "GNVR"]
    score, compared, setting = (cell.split("; ") for cell in row[6:9])
    assert score[1:] == ["–", "90.00%"] and setting[1] == "–" and len(compared) == len(setting) == 3
    assert "–" not in (score[0], setting[0], setting[2])


def test_tuning_that_goes_on_has_chosen_nothing() -> None:
    export, curves = synthetic_export(finished_trials=1)
    diverge(rows_of(export, "GNVR", "tune")[0], curves)
    numbers = compute_numbers(make_record(export, curves))
    [warning] = [line for line in find_warnings(numbers) if line.startswith("GNVR")]
    assert warning == "GNVR: 1 of 1 trial diverged"
    assert "all trials diverged" not in text_of(numbers)


def test_both_reasons_make_one_warning() -> None:
    """The best trials of ten tuning runs are at the end, and so are the settings that were chosen."""
    export, curves = synthetic_export(seeds=10, tuning_runs=10)
    for row in rows_of(export, "GNVR", "tune"):
        row["setting"] = row["setting"] | {"weight_decay": 0.09}
    [warning] = [line for line in find_warnings(compute_numbers(make_record(export, curves))) if "weight decay" in line]
    assert "0.99, 30 of the best 30 trials and 10 of the 10 chosen settings" in warning


def test_a_full_default_study_has_one_warning_only() -> None:
    [warning] = find_warnings(compute_numbers(synthetic_record(trials=30, seeds=12, tuning_runs=3)))
    assert warning.startswith("Fewer than 10 tuning runs (3)")
    [warning] = find_warnings(compute_numbers(synthetic_record(trials=30, seeds=12)))
    assert warning.startswith("Conditional on one tuning run") and "--tuning-runs 3 --seeds 36" in warning


def definition(tuned: Sequence[int], own_trials: Sequence[int | None] = (None, None, None)) -> dict[str, Any]:
    """Configurations A, B and C that tune so many hyperparameters besides a fixed one."""
    bounds = {"low": 0.0, "high": 1.0, "log": False, "off": None}
    return {
        "configurations": [
            {"name": name, "trials": trials, "space": {"fixed": 0.9} | {f"h{i}": bounds for i in range(count)}}
            for name, count, trials in zip("ABC", tuned, own_trials, strict=False)
        ]
    }


@pytest.mark.parametrize(
    ("tuned", "trials", "few"),
    [
        (1, 19, True), (1, 20, False), (2, 19, True), (2, 20, False), (3, 29, True), (3, 30, False),
        (5, 49, True), (5, 50, False), (0, 1, False),
    ],
)  # fmt: skip
def test_twenty_trials_and_ten_for_each_hyperparameter_are_enough(tuned: int, trials: int, few: bool) -> None:
    assert bool(few_trials(definition([tuned, tuned]), trials)) == few


@pytest.mark.parametrize(
    ("tuned", "own_trials", "trials", "beginning", "ending"),
    [
        ([2, 3, 3], [None] * 3, 20, "B and C have 20 for 3 hyperparameters; ", ": plan 30 (--trials 30)"),
        ([1, 4], [None] * 2, 12, "A has 12 for 1 hyperparameter, B has 12 for 4", ": plan 40 (--trials 40)"),
        ([1, 3], [None, 15], 40, "B has 15 for 3 hyperparameters; ", ": plan 30"),
    ],
)
def test_the_sentence_names_configurations_their_trials_and_how_many_to_plan(
    tuned: list[int], own_trials: list[int | None], trials: int, beginning: str, ending: str
) -> None:
    """A flag changes nothing where a configuration has its own number of trials."""
    sentence = few_trials(definition(tuned, own_trials), trials)
    assert sentence.partition(": ")[2].startswith(beginning) and sentence.endswith(ending)


def test_nothing_to_tune_is_no_unequal_budget() -> None:
    export, curves = synthetic_export(names=("AdamW", "GNVR", "Usual"), trials=20, seeds=10, tuning_runs=10)
    entry = export["study"]["definition"]["configurations"][2]
    entry["space"] = {"learning_rate": 0.01}
    export["slots"] = [
        row for row in export["slots"] if row["configuration"] != "Usual" or row["phase"] == "rerun" or row["slot"] == 0
    ]
    record = make_record(export, curves)
    numbers = compute_numbers(record)
    assert numbers.trials_per_run == {"AdamW": 20, "GNVR": 20, "Usual": 1} and numbers.tuned == ["AdamW", "GNVR"]
    warnings = " ".join(find_warnings(numbers))
    assert "Unequal" not in warnings and "Interim" not in warnings and "Usual" not in warnings
    text = text_of(numbers)
    assert "20 trials per configuration (Usual has nothing to tune)" in text
    assert re.search(r"^\| Usual \| 10 of 10 \|.*\| nothing is tuned \|", text, re.MULTILINE)
    assert "| Usual |" not in text.split("\nT12. ")[1].split("\n## ")[0].split("</details>")[0]
    history = next(figure.chart for figure in plan_figures(record, numbers) if figure.number == 6)
    assert isinstance(history, History) and set(history.trials["configuration"]) == {"AdamW", "GNVR"}
    entry["trials"] = 5
    assert "Unequal" not in " ".join(find_warnings(compute_numbers(record)))


@pytest.mark.parametrize(("trials", "named"), [(29, ["GNVR"]), (30, []), (20, ["GNVR"]), (19, ["AdamW", "GNVR"])])
def test_trials_count_by_tuning_run_in_the_report_and_the_dashboard(trials: int, named: list[str]) -> None:
    """AdamW tunes two hyperparameters, GNVR three; three tuning runs do not add up."""
    record = synthetic_record(trials=trials, seeds=3, tuning_runs=3)
    few = [warning for warning in find_warnings(compute_numbers(record)) if warning.startswith("Few trials")]
    assert len(few) == bool(named)
    assert [name for name in ("AdamW", "GNVR") if few and f"{name} has {trials} for" in few[0]] == named
    note = summarise(record).note
    assert (f"- {few[0]}.\n" in note) if few else ("Few trials" not in note)
