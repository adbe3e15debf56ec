"""A few schedules of faults; `python tests/support/fault_injection.py` runs as many as are asked for."""

import os
import subprocess
import sys
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
def test_whatever_happens_the_study_is_whole(
    seed: int, place: Storage, fork_server: ForkServer, tmp_path: Path
) -> None:
    carry_out(draw(seed), fork_server, place, tmp_path)


def test_a_schedule_that_fails_names_the_command_that_repeats_it(tmp_path: Path) -> None:
    program = (
        "import fault_injection, fault_schedules, sys\n"
        "def check(*_): raise AssertionError('budget')\n"
        "fault_schedules.check = check\n"
        "sys.argv = ['fault_injection.py', '--schedules', '3', '--seed', '20']\n"
        "fault_injection.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(fault_injection.__file__).parent,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "AssertionError: budget" in done.stderr
    assert "python tests/support/fault_injection.py --storage sqlite --schedules 1 --seed 20" in done.stderr
    (kept,) = tmp_path.iterdir()  # the logs of the one that failed, and no database
    assert str(kept) in done.stderr and list(kept.glob("*.log"))
