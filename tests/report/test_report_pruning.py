"""What a report says of trials that were pruned."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from synthetic_record import diverge, synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record, make_record
from hpo.report import write_report
from hpo.report.tables import tuning
from hpo.report.tuning_frames import scored_trials
from hpo.report.warnings import cautions

PRUNER = {"kind": "SuccessiveHalving", "min_epochs": 2, "factor": 3}


def pruned_record(pruned: dict[str, list[int]], diverged: dict[str, list[int]] | None = None, **changes: Any) -> Record:
    """8 trials of 6 epochs, those in `pruned` stopped after 2 with scores above all others."""
    export, curves = synthetic_export(pruner=PRUNER, **changes)
    for row in export["slots"]:
        if row["phase"] == "tune" and row["slot"] in pruned[row["configuration"]]:
            row["cause"], row["value"] = "pruned", 0.99
            row["result"] = {"epochs": 2, "validation_loss": 0.1, "population": 8}
        if row["phase"] == "tune" and row["slot"] in (diverged or {}).get(row["configuration"], []):
            diverge(row, curves)
    return make_record(export, curves)


def test_pruned_trials_are_counted_and_never_the_best() -> None:
    numbers = compute_numbers(pruned_record({"AdamW": [0, 1, 5], "GNVR": [2, 3, 4, 6]}))
    found = [entry.tuning for entry in numbers.configurations]
    assert [(own.finished, own.pruned, own.epochs) for own in found] == [(8, 3, 36), (8, 4, 32)]
    assert [len(own.best) for own in found] == [1, 1] and all(own.best[0].score < 0.99 for own in found)
    assert found[0].best[0].slot in {2, 3, 4, 6, 7} and found[1].best[0].slot in {0, 1, 5, 7}
    table = tuning(numbers)
    assert table.header[1:5] == ["finished", "diverged", "pruned", "failed for good"] and table.numeric == range(1, 6)
    assert [row[1:5] for row in table.rows] == [["8 of 8", "0", "3", "0"], ["8 of 8", "0", "4", "0"]]
    assert "Unequal epochs of tuning, by pruning: AdamW 36, GNVR 32" in cautions(numbers)


def test_figures_of_tuning_show_trials_of_full_length() -> None:
    record = pruned_record({"AdamW": [0, 1, 5], "GNVR": [2]})
    scored = scored_trials(record)
    assert [row["slot"] for row in scored["AdamW"]] == [2, 3, 4, 6, 7] and len(scored["GNVR"]) == 7


def test_equal_epochs_are_no_warning() -> None:
    numbers = compute_numbers(pruned_record({"AdamW": [0, 1], "GNVR": [2, 3]}))
    assert not [words for words in cautions(numbers) if "epochs" in words]
    assert any(words.startswith("Pruned by early scores") for words in cautions(numbers))


def test_where_no_whole_trial_went_well_a_pruned_one_is_the_best_and_that_is_said() -> None:
    numbers = compute_numbers(pruned_record({"AdamW": [0, 1], "GNVR": []}, {"AdamW": [2, 3, 4, 5, 6, 7]}))
    assert numbers.configurations[0].tuning.best[0].score == 0.99
    assert "AdamW: no trial of full length went well, so that a pruned one chose its setting" in cautions(numbers)


def test_the_report_says_how_trials_were_pruned(tmp_path: Path) -> None:
    record = pruned_record({"AdamW": [0, 1, 5], "GNVR": [2, 3, 4, 6]})
    text = write_report(record, tmp_path, "s", []).read_text()
    assert (
        "- Pruning: trials that fell behind were stopped early, by SuccessiveHalving, min epochs 2, factor 3; a" in text
    )
    assert (
        "AdamW 36 of 48 (3 of 8 trials pruned), GNVR 32 of 48 (4 of 8 trials pruned). Reruns are never pruned." in text
    )
    assert "chooses no setting where a trial of full length went well" in text
    assert "| configuration | finished | diverged | pruned | failed for good |" in text
    results = json.loads((tmp_path / "results.json").read_text())
    assert [entry["tuning"]["pruned"] for entry in results["configurations"]] == [3, 4]
    trials = pd.read_csv(tmp_path / "trials.csv")
    assert trials[trials.cause == "pruned"]["result/epochs"].tolist() == [2] * 7


def test_a_study_without_a_pruner_says_nothing_of_it(tmp_path: Path) -> None:
    text = write_report(make_record(*synthetic_export()), tmp_path, "s", []).read_text()
    assert "prun" not in text.lower()
