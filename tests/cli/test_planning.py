"""The numbers of trials, seeds and tuning runs that a study plans, from its file and from flags."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from hpo import MLP, Configuration, Mnist1d, Study
from hpo.api import open_ledger
from hpo.errors import UsageError


def study(name: str = "s", **changes: Any) -> Study:
    configurations = (Configuration("A"), Configuration("B"))
    return Study(Mnist1d(), MLP((40, 8, 10)), configurations, baseline="A", name=name, **changes)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/t.db"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tuning_runs": 10, "seeds_per_trial": 101}, "tuning_runs × seeds_per_trial is 1010"),
        ({"tuning_runs": 3, "seeds": 2}, "tuning_runs is 3 and seeds is 2"),
        *(({"tuning_runs": wrong}, f"tuning_runs is {wrong!r}") for wrong in (0, -1, 1.5, True, "3")),
    ],
)
def test_numbers_that_cannot_be_planned_are_refused(fields: dict[str, Any], words: str) -> None:
    assert study(tuning_runs=10, seeds_per_trial=100).seeds_per_trial == 100
    with pytest.raises(UsageError, match=words):
        study(**fields)


@pytest.mark.parametrize(("seeds", "tuning_runs"), [(None, 3), (1, 1), (2, 2), (3, 3), (4, 3), (12, 3), (100, 3)])
def test_a_study_has_three_tuning_runs_or_as_many_as_seeds(seeds: int | None, tuning_runs: int, url: str) -> None:
    given = {} if seeds is None else {"seeds": seeds}
    planned = {"trials": 40, "seeds": seeds or 12, "tuning_runs": tuning_runs}
    assert open_ledger(study("file", **given), url).planned == planned
    assert open_ledger(study("flag"), url, seeds=seeds).planned == planned
    existing = open_ledger(study("flag"), url)
    assert existing.planned == planned, "an existing study keeps its plan"
    advice = [
        flag for flag in ("--seeds 12", "--tuning-runs 3") for text in existing.warnings if f"give {flag}" in text
    ]
    assert advice == (["--seeds 12"] if planned["seeds"] < 12 else [])


def test_a_study_with_fewer_tuning_runs_than_its_file_says_how_to_plan_more(url: str) -> None:
    assert open_ledger(study("five", tuning_runs=5), url).planned["tuning_runs"] == 5
    assert open_ledger(study(tuning_runs=1), url).planned["tuning_runs"] == 1
    existing = open_ledger(study(), url)
    assert existing.planned["tuning_runs"] == 1
    [warning] = existing.warnings
    assert "give --tuning-runs 3" in warning
    assert existing.text["command"] == "hpo run s --tuning-runs 1"


@pytest.mark.parametrize("flags", [{"seeds": 334, "tuning_runs": 334}, {"seeds": 2, "tuning_runs": 3}])
def test_wrong_flags_are_refused_before_anything_is_deleted(flags: dict[str, int], url: str) -> None:
    planned_study = study(seeds_per_trial=3)
    existing = open_ledger(planned_study, url)
    for refused, fresh in ((dataclasses.replace(planned_study, name="another"), False), (planned_study, True)):
        with pytest.raises(UsageError, match="tuning"):
            open_ledger(refused, url, **flags, fresh=fresh)
    assert open_ledger(planned_study, url).id == existing.id


def test_the_shown_command_contains_all_planned_numbers(url: str) -> None:
    planned_study, command = study(tuning_runs=1), "hpo run s --seeds 6 --tuning-runs 3"
    assert open_ledger(planned_study, url, seeds=6, tuning_runs=3, command=command).text["command"] == command
    assert open_ledger(planned_study, url).text["command"] == command
    raised = open_ledger(planned_study, url, seeds=9, command="hpo run s --seeds 9")
    assert raised.text["command"] == "hpo run s --seeds 9 --tuning-runs 3"


def test_tuning_runs_that_need_more_seeds_are_refused_with_a_sufficient_number(url: str) -> None:
    planned_study = study(seeds=10, tuning_runs=1)
    open_ledger(planned_study, url)
    with pytest.raises(UsageError, match="give --seeds 21 or more"):
        open_ledger(planned_study, url, tuning_runs=12)
    assert open_ledger(planned_study, url, tuning_runs=12, seeds=21).planned["tuning_runs"] == 12
