"""A stopped worker in a step of a Slurm job, with a `scontrol` of the test; launch/test_slurm.py has real jobs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.worker import slurm_job
from hpo.worker.slurm_job import let_preempted_job_be_requeued

SCONTROL = """#!/bin/sh
echo "$@" >> "$0.calls"
[ "$1" = "$(cat "$0.refused")" ] && exit 1
echo "JobId=7 JobState=RUNNING PreemptTime=$(cat "$0.preempted") Command=/a b=c"
"""
OVERDUE = """
import os, signal, time
from hpo.worker.signals import Stop

stop = Stop()
stop.last_resort = lambda: True
with stop.installed():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
"""


class Scontrol:
    """A program that knows one job. Attributes: calls: the arguments of each call."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "scontrol"
        self.program.write_text(SCONTROL)
        self.program.chmod(0o755)
        self.set(preempted=True)

    def set(self, preempted: bool, refused: str = "none") -> None:
        Path(f"{self.program}.preempted").write_text("2026-11-29T01:39:18" if preempted else "None")
        Path(f"{self.program}.refused").write_text(refused)

    @property
    def calls(self) -> list[str]:
        file = Path(f"{self.program}.calls")
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scontrol:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in {"STEP_ID": "0", "JOB_ID": "12", "ARRAY_JOB_ID": "10", "ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr(slurm_job, "STAY", 0.0)
    return Scontrol(tmp_path)


def test_a_preempted_step_asks_for_the_requeue_of_its_task_alone(
    scontrol: Scontrol, capfd: pytest.CaptureFixture[str]
) -> None:
    let_preempted_job_be_requeued()
    assert scontrol.calls[-1] == "requeue 10_3" and capfd.readouterr().err == ""


@pytest.mark.parametrize("refused", ["requeue", "show"])
def test_a_step_that_may_be_preempted_stays_if_slurm_refuses(
    scontrol: Scontrol, refused: str, capfd: pytest.CaptureFixture[str]
) -> None:
    scontrol.set(preempted=True, refused=refused)
    let_preempted_job_be_requeued()
    assert scontrol.calls[-1] == "requeue 10_3"
    assert bool(capfd.readouterr().err) == (refused == "requeue")


def test_other_stops_leave_the_job_alone(scontrol: Scontrol, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol.set(preempted=False)
    let_preempted_job_be_requeued()
    assert len(scontrol.calls) == 1
    monkeypatch.setenv("HPO_LAUNCH", "slurm 10_3")
    let_preempted_job_be_requeued()
    monkeypatch.delenv("HPO_LAUNCH")
    monkeypatch.delenv("SLURM_STEP_ID")
    let_preempted_job_be_requeued()
    assert len(scontrol.calls) == 1


def test_a_worker_that_another_thread_ends_asks_as_well(scontrol: Scontrol) -> None:
    done = subprocess.run([sys.executable, "-c", OVERDUE], capture_output=True, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert scontrol.calls[-1] == "requeue 10_3"
