"""A mean between two groups is said to be one, next to it, and the values are shown."""

import json
from pathlib import Path

from synthetic_record import synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.report import write_report
from hpo.report.tables import results
from hpo.report.warnings import find_warnings

LOW, HIGH = (0.10, 0.11, 0.12, 0.13, 0.14), (0.80, 0.81, 0.82, 0.83, 0.84)
SPLIT = {"GNVR": [*LOW[:4], *HIGH, LOW[4]], "AdamW": [0.5 + number / 100 for number in range(10)]}


def test_a_report_says_and_shows_it(tmp_path: Path) -> None:
    record = synthetic_record(seeds=10, accuracies=SPLIT)
    readme = write_report(record, tmp_path / "report", "split", ["hpo run split"]).read_text(encoding="utf-8")
    [cell] = [line for line in readme.splitlines() if "±" in line and "two groups" in line]
    assert cell.startswith("| GNVR |")
    [warning, below] = [line for line in readme.splitlines() if "lie in two groups" in line]
    assert warning == f"> {below}" and "5 seeds up to 14.00% and 5 from 80.00% on" in below
    assert readme.index(cell) < readme.index(f"\n{below}") < readme.index("\nT1b. ") < readme.index("\nT2. ")
    assert warning.startswith("> - GNVR: the values of test accuracy") and "14.00%" in warning and "80.00%" in warning
    values = [line for line in readme.splitlines() if line.startswith("| GNVR | test accuracy |")]
    assert [line.split(" | ")[2] for line in values] == ["5 seeds", "5 seeds"]
    assert "1009: 14.00%" in values[0] and "1004: 80.00%" in values[1]
    stored = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    assert warning.removeprefix("> - ").removesuffix(".") in stored["warnings"]
    plain, split = (entry["reruns"]["two_groups"] for entry in stored["configurations"])
    assert plain == {}
    assert split["test_accuracy"]["lower"] == {"1000": 0.1, "1001": 0.11, "1002": 0.12, "1003": 0.13, "1009": 0.14}
    assert list(split["test_accuracy"]["upper"].values()) == list(HIGH)


def test_a_report_without_groups_does_not_mention_them(tmp_path: Path) -> None:
    record = synthetic_record(seeds=10)
    assert "two groups" not in write_report(record, tmp_path / "report", "one", []).read_text(encoding="utf-8")


def test_tuning_runs_are_numbered_as_in_the_table_of_seeds() -> None:
    accuracies = {"GNVR": [(0.1, 0.1, 0.8, 0.1, 0.8)[seed % 5] + seed / 1000 for seed in range(20)]}
    numbers = compute_numbers(synthetic_record(seeds=20, tuning_runs=5, accuracies=accuracies))
    [warning] = [text for text in find_warnings(numbers) if "two groups" in text]
    assert "3 tuning runs up to 11.05% and 2 from 80.95% on" in warning
    [cell] = [row[2] for row in results(numbers).rows if "two groups" in row[2]]
    assert cell.endswith("(two groups)")
