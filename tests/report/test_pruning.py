"""What a report says of trials that were pruned; the golden files hold the sentences."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from report_text import text_of

from hpo.analysis.compute import compute_numbers
from hpo.report.tuning_frames import scored_trials
from hpo.report.tuning_tables import tuning
from hpo.report.warnings import find_warnings
from tests.report.moments import numbers_of, pruned, record_of


def test_pruned_trials_are_counted_and_never_the_best() -> None:
    numbers = numbers_of("pruned")
    trials = [entry.tuning for entry in numbers.configurations]
    assert [(part.finished, part.pruned, part.epochs) for part in trials] == [(8, 3, 36), (8, 4, 32)]
    assert [len(part.best) for part in trials] == [1, 1] and all(part.best[0].score < 0.99 for part in trials)
    assert trials[0].best[0].number in {3, 4, 5, 7, 8} and trials[1].best[0].number in {1, 2, 6, 8}
    table = tuning(numbers)
    assert table.header[1:5] == ["finished", "diverged", "pruned", "failed for good"] and table.numeric == range(1, 6)
    assert [row[1:5] for row in table.rows] == [["8 of 8", "0", "3", "0"], ["8 of 8", "0", "4", "0"]]


def test_figures_of_tuning_show_trials_of_full_length() -> None:
    scored = scored_trials(record_of("pruned"))
    assert scored[scored.configuration == "AdamW"]["trial"].tolist() == [3, 4, 5, 7, 8] and len(scored) == 5 + 4


def test_equal_epochs_are_no_warning() -> None:
    warnings = find_warnings(compute_numbers(pruned({"AdamW": [0, 1], "GNVR": [2, 3]})))
    assert not [warning for warning in warnings if "epochs" in warning]
    assert any(warning.startswith("Trials were pruned") for warning in warnings)


def test_where_no_full_length_trial_has_a_score_a_pruned_one_is_the_best() -> None:
    numbers = numbers_of("pruned trials are all there is")
    assert numbers.configurations[0].tuning.best[0].score == 0.99


def test_the_csv_file_says_which_trials_were_pruned_after_how_many_epochs(rendered: Callable[[str], Path]) -> None:
    trials = pd.read_csv(rendered("pruned") / "trials.csv")
    assert trials[trials.cause == "pruned"]["result/epochs"].tolist() == [2] * 7


def test_a_study_without_a_pruner_does_not_mention_pruning() -> None:
    assert "prun" in text_of(numbers_of("pruned")) and "prun" not in text_of(numbers_of("finished")).lower()
