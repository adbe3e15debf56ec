"""Workers started by one command: as processes here, and on a real one-node Slurm."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launched_project import Project
from slurm_cluster import SlurmCluster
from waiting import wait_for

from hpo.launch.launch import new_launch, save
from hpo.storage.ledger import new_worker_id


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder)


def test_workers_of_this_machine_complete_a_study(project: Project) -> None:
    project.write(epochs=1, trials=4)
    said = project.hpo("launch", "small", "--workers", "2")
    name = said.partition(":")[0]
    wait_for(lambda: project.states() == ["ended", "ended"])
    project.assert_complete(4)
    assert "--- worker 1" in project.hpo("launch", "--logs", name) and "--- worker 2" in project.hpo(
        "launch", "--logs", "small"
    )


def test_workers_are_stopped(project: Project) -> None:
    project.write(epochs=2000, trials=4)
    project.hpo("launch", "small", "--workers", "2")
    wait_for(lambda: project.counts().get("leased"))
    project.hpo("launch", "--stop", "small")
    assert project.states() == ["ended", "ended"]
    assert set(project.counts()) == {"open"}


@pytest.mark.parametrize(
    ("where", "shift", "code", "state"),
    [("other+0123abcd", 0, 2, "unknown"), (None, 0, 0, "ended"), (None, 1, 0, "ended")],
)
def test_only_processes_of_the_launch_are_stopped(
    where: str | None, shift: int, code: int, state: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process number means another process on another machine, after a restart and after it was reused."""
    monkeypatch.chdir(project.folder)
    process = subprocess.Popen(["sleep", "60"])
    host, pid, started, key = new_worker_id(process.pid).split(":")
    record = new_launch("small", "local", ["hpo"], 1)
    save(record, {"worker_ids": [f"{where or host}:{pid}:{int(started) + shift}:{key}"]})
    project.hpo("launch", "--stop", "small", code=code)
    killed = where is None and not shift
    assert process.poll() == (-signal.SIGTERM if killed else None)
    assert project.states() == [state]
    process.kill()
    process.wait()


def test_a_mistake_in_the_study_is_said_at_once_and_nothing_starts(project: Project) -> None:
    project.write(epochs=-1, trials=4)
    assert "epochs" in project.hpo("launch", "small", code=2)
    assert "no launches" in project.hpo("launch", "--list")
    assert "no launch 'small'" in project.hpo("launch", "--stop", "small", code=2)
    assert "name the study" in project.hpo("launch", code=2)


def test_no_cluster(project: Project) -> None:
    project.write(epochs=1, trials=4)
    (project.folder / "sinfo").write_text("#!/bin/sh\necho sinfo: fatal: no configuration source >&2\nexit 1\n")
    (project.folder / "sinfo").chmod(0o755)
    project.environment["PATH"] = f"{project.folder}:{os.environ['PATH']}"
    message = project.hpo("launch", "small", "--on", "slurm", code=1)
    assert message.count("\n") == 1 and "no configuration source" in message and "--on local" in message


def test_workers_on_slurm(project: Project, cluster: SlurmCluster) -> None:
    """Two tasks of an array, and a worker that a user's script starts by srun: they are preempted, then cancelled."""
    project.environment |= cluster.environment
    project.write(epochs=5000, trials=8)
    project.hpo("launch", "small", "--workers", "2", "--on", "slurm", "--time", "10m", "--population", "2")
    worker = shlex.join(["srun", sys.executable, "-m", "hpo", "worker", "small", "--population", "2"])
    words = ["sbatch", "--parsable", "--requeue", f"--chdir={project.folder}", "--output=own.log"]
    own = cluster.run(*words, "--wrap", worker, environment=project.environment).strip()
    wait_for(lambda: project.counts().get("leased") == 6, 120)
    assert project.states() == ["running", "running"]
    urgent = cluster.run("sbatch", "--parsable", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=true")
    wait_for(lambda: cluster.was_preempted(own))
    assert wait_for(lambda: not project.counts().get("leased")) < 5
    wait_for(lambda: cluster.job(urgent.strip())["JobState"] == "COMPLETED", 20)
    assert cluster.job(own)["Restarts"] == "1" and project.states() == ["pending", "pending"]
    assert "--- worker 2" in project.hpo("launch", "--logs", "small")
    project.hpo("launch", "--stop", "small")
    wait_for(lambda: project.states() == ["ended", "ended"])
    cluster.run("scancel", own)  # the user's own job may have started again
    wait_for(lambda: set(project.counts()) == {"open"})
