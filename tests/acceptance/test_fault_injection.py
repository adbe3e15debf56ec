"""A few schedules of faults; `python tests/support/fault_injection.py` runs any number of them."""

from collections import Counter
from pathlib import Path

import fault_injection
import pytest
from fault_schedules import carry_out, draw
from fork_server import ForkServer
from storages import Storage

SEEDS = [1, 3, 20]


def test_the_schedules_have_every_fault_and_number_of_workers() -> None:
    schedules = [draw(seed) for seed in SEEDS]
    assert {fault.kind for schedule in schedules for fault in schedule.faults} == {"kill", "pause", "start", "outage"}
    assert {schedule.workers for schedule in schedules} == {1, 2, 8}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_trial_is_finished_once(seed: int, databases: Storage, fork_server: ForkServer, tmp_path: Path) -> None:
    carry_out(draw(seed), fork_server, databases, tmp_path)


def test_a_failed_schedule_names_the_command_that_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    folders: list[Path] = []

    def fail(*arguments: object) -> Counter[str]:
        folders.append(Path(str(arguments[-1])))
        raise AssertionError("budget")

    with pytest.raises(SystemExit, match="1"):
        fault_injection.run_experiment("--schedules 1 --seed 20", fail, None, None, "sqlite")  # type: ignore[arg-type]
    text = capsys.readouterr().err
    assert "AssertionError: budget" in text and str(folders[0]) in text and folders[0].is_dir()
    assert "python tests/support/fault_injection.py --storage sqlite --schedules 1 --seed 20" in text
    folders[0].rmdir()
