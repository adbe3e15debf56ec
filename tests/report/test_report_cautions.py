"""Few trials: from which numbers on a study is warned of them, for whom, and what it is told to do."""

from collections.abc import Sequence
from typing import Any

import pytest
from synthetic_record import synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.report.summary import summarise
from hpo.report.warnings import cautions, few_trials


def definition(tuned: Sequence[int], own: Sequence[int | None] = (None, None, None)) -> dict[str, Any]:
    """Configurations A, B and C that tune so many hyperparameters beside a fixed one."""
    bounds = {"low": 0.0, "high": 1.0, "log": False, "off": None}
    return {
        "configurations": [
            {"name": name, "trials": trials, "space": {"fixed": 0.9} | {f"h{i}": bounds for i in range(count)}}
            for name, count, trials in zip("ABC", tuned, own, strict=False)
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
    slow = tuned > 0 and (trials < 20 or trials / tuned < 10)
    assert few == slow


def test_the_sentence_names_who_has_how_many_and_how_many_to_plan() -> None:
    ending = "below 20, or 10 for each hyperparameter, one more trial often changes the setting chosen: plan"
    assert few_trials(definition([2, 3, 3]), 20) == (
        f"Few trials a tuning run: B and C have 20 for 3 hyperparameters; {ending} 30 (--trials 30)"
    )
    assert few_trials(definition([1, 4]), 12) == (
        "Few trials a tuning run: A has 12 for 1 hyperparameter, B has 12 for 4 hyperparameters; "
        f"{ending} 40 (--trials 40)"
    )


def test_a_configurations_own_number_counts_and_no_flag_changes_it() -> None:
    told = few_trials(definition([1, 3], own=[None, 15]), 40)
    assert told.startswith("Few trials a tuning run: B has 15 for 3 hyperparameters; ") and told.endswith(": plan 30")
    assert not few_trials(definition([1, 3], own=[20, 30]), 1)


@pytest.mark.parametrize(("trials", "named"), [(29, ["GNVR"]), (30, []), (20, ["GNVR"]), (19, ["AdamW", "GNVR"])])
def test_trials_count_by_tuning_run_in_the_report_and_the_dashboard(trials: int, named: list[str]) -> None:
    """AdamW tunes two hyperparameters, GNVR three; three tuning runs do not add up."""
    record = synthetic_record(trials=trials, seeds=3, tuning_runs=3)
    found = [caution for caution in cautions(compute_numbers(record)) if caution.startswith("Few trials")]
    assert len(found) == bool(named)
    assert [name for name in ("AdamW", "GNVR") if found and f"{name} has {trials} for" in found[0]] == named
    note = summarise(record).note
    assert (f"- {found[0]}.\n" in note) if found else ("Few trials" not in note)
