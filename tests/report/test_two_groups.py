"""A mean between two groups, or beside one value apart, is said to be one, next to it, and the values are shown."""

import json
from pathlib import Path

from synthetic_record import synthetic_export, synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import make_record
from hpo.analysis.rerun_metrics import MIN_GAP_IN_MARGINS, MIN_GAP_OF_NUMBERS, MIN_GAP_OF_SHARES
from hpo.report import write_report
from hpo.report.analysis_tables import memorisation, two_groups
from hpo.report.tables import results
from hpo.report.warnings import find_warnings

LOW, HIGH = (0.10, 0.11, 0.12, 0.13, 0.14), (0.80, 0.81, 0.82, 0.83, 0.84)
SPLIT = {"GNVR": [*LOW[:4], *HIGH, LOW[4]], "AdamW": [0.5 + number / 100 for number in range(10)]}


def test_a_report_says_and_shows_it(tmp_path: Path) -> None:
    record = synthetic_record(seeds=10, accuracies=SPLIT, margin=0.007)
    readme = write_report(record, tmp_path / "report", "split", ["hpo run split"]).read_text(encoding="utf-8")
    [cell] = [line for line in readme.splitlines() if "±" in line and "(two groups)" in line]
    assert cell.startswith("| GNVR |")
    [warning, below] = [line for line in readme.splitlines() if "test accuracy (5 seeds up to" in line]
    assert warning == f"> {below}" and "5 seeds up to 14.00%, 5 from 80.00% on" in below
    assert readme.index(cell) < readme.index(f"\n{below}") < readme.index("\nT1b. ") < readme.index("\nT2. ")
    assert warning.startswith("> - GNVR: ") and "14.00%" in warning and "80.00%" in warning
    values = [line for line in readme.splitlines() if line.startswith("| GNVR | test accuracy |")]
    assert [line.split(" | ")[2] for line in values] == ["5 seeds", "5 seeds"]
    assert "1009: 14.00%" in values[0] and "1004: 80.00%" in values[1]
    stored = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    assert warning.removeprefix("> - ").removesuffix(".") in stored["warnings"]
    plain, split = (entry["reruns"]["two_groups"] for entry in stored["configurations"])
    assert plain == {}
    assert split["test_accuracy"]["lower"] == {"1000": 0.1, "1001": 0.11, "1002": 0.12, "1003": 0.13, "1009": 0.14}
    assert list(split["test_accuracy"]["upper"].values()) == list(HIGH)
    [rule] = [line for line in readme.splitlines() if line.startswith("T1b. ")]
    assert f"{MIN_GAP_IN_MARGINS * 0.7:g} points of test accuracy" in rule and MIN_GAP_IN_MARGINS == 5
    assert f"{100 * MIN_GAP_OF_SHARES:g} points of another share" in rule
    assert "half the mean absolute value" in rule and MIN_GAP_OF_NUMBERS == 0.5


def test_a_report_without_groups_does_not_mention_them(tmp_path: Path) -> None:
    record = synthetic_record(seeds=10)
    assert "two groups" not in write_report(record, tmp_path / "report", "one", []).read_text(encoding="utf-8")


def test_tuning_runs_are_numbered_as_in_the_table_of_seeds() -> None:
    accuracies = {"GNVR": [(0.1, 0.1, 0.8, 0.1, 0.8)[seed % 5] + seed / 1000 for seed in range(20)]}
    numbers = compute_numbers(synthetic_record(seeds=20, tuning_runs=5, accuracies=accuracies))
    [warning] = [text for text in find_warnings(numbers) if "two groups" in text]
    assert "test accuracy (3 tuning runs up to 11.05%, 2 from 80.95% on)" in warning
    cells = [row[2] for row in results(numbers).rows if "two groups" in row[2]]
    assert len(cells) == 1 and cells[0].endswith("(two groups)")


def test_every_mean_of_the_same_values_is_marked_and_one_sentence_names_them() -> None:
    export, curves = synthetic_export(tuning_runs=6, seeds=12)
    for row in export["slots"]:
        if row["configuration"] == "GNVR" and row["phase"] == "rerun":
            apart, small = row["tuning_run"] == 4, row["slot"] / 1000
            result = row["result"]
            result["noisy_labels_fitted"] = (0.1, 0.9)[apart] - small
            result["train_loss"] = (1.3, 0.01)[row["tuning_run"] in (0, 1)] + small
            result["train_accuracy"] = result["test_accuracy"] + (0.02, 0.5)[apart]
    numbers = compute_numbers(make_record(export, curves))
    [warning] = [text for text in find_warnings(numbers) if "groups" in text or "apart" in text]
    assert warning.startswith("GNVR: ") and warning.count("GNVR") == 1
    assert "final training loss (2 tuning runs up to 0.0140, 4 from 1.3" in warning
    assert "generalisation gap (one tuning run at +50.00 points, the others up to +2.00 points)" in warning
    assert "noisy labels fitted (one tuning run at 89.30%, the others up to 9.70%)" in warning
    table, [_, row] = results(numbers), results(numbers).rows
    marks = {heading: cell.partition(" (")[2] for heading, cell in zip(table.header, row, strict=True)}
    assert marks["final training loss"] == "two groups)" and marks["noisy labels fitted"] == "one apart)"
    assert marks["generalisation gap"] == "one apart)" and marks["test accuracy [95% CI]"] == ""
    assert memorisation(numbers).rows[1][1].endswith("% (one apart)")
    shown = [(row[1], row[2]) for row in two_groups(numbers).rows]
    assert shown[:2] == [("final training loss", "2 tuning runs"), ("final training loss", "4 tuning runs")]
    assert ("noisy labels fitted", "1 tuning run") in shown and len(shown) == 6
