"""Workers started by one command: as processes here, and on a real one-node Slurm."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slurm_cluster
from slurm_cluster import SlurmCluster

import hpo
from hpo.storage.database import connect
from hpo.storage.ledger import load_study

ROOT = Path(hpo.__file__).parents[1]
STUDY = '''
"""A small study."""
from hpo import MLP, Configuration, Mnist1d, Study

STUDY = Study(
    data=Mnist1d(samples=400), model=MLP((40, 32, 10)), epochs={epochs}, trials={trials}, seeds=3, tuning_runs=1,
    baseline="A", configurations=(Configuration("A"), Configuration("B", regularizer="gnvr")),
)
'''


class Project:
    """A folder with a study, in which commands are run."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/hpo.db"
        cache = str(folder.parent.parent / "cache")
        self.environment = (
            os.environ | {"PYTHONPATH": str(ROOT), "HPO_CACHE": cache, "HPO_STORAGE": self.url} | environment
        )
        (folder / "studies").mkdir()

    def write(self, epochs: int, trials: int) -> None:
        (self.folder / "studies" / "small.py").write_text(STUDY.format(epochs=epochs, trials=trials))

    def hpo(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "hpo", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def counts(self) -> dict[str, int]:
        """Slots of the study by state."""
        found: dict[str, int] = {}
        for slot in load_study(connect(self.url), "small").export()["slots"]:
            found[slot["state"]] = found.get(slot["state"], 0) + 1
        return found

    def states(self) -> list[str]:
        return re.findall(r"^ +\d+  (\w+)", self.hpo("launch", "--list"), re.MULTILINE)

    def assert_complete(self, trials: int) -> None:
        slots = load_study(connect(self.url), "small").export()["slots"]
        assert [slot["state"] for slot in slots] == ["done"] * 2 * (trials + 3)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder, {})


def wait_for(condition: Callable[[], Any], seconds: float = 90) -> float:
    """Waits until the condition holds; returns how long that took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds
        time.sleep(0.2)
    return time.monotonic() - start


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


def test_a_mistake_in_the_study_is_said_at_once_and_nothing_starts(project: Project) -> None:
    project.write(epochs=-1, trials=4)
    assert "epochs" in project.hpo("launch", "small", code=2)
    assert "no launches" in project.hpo("launch", "--list")
    assert "no launch 'small'" in project.hpo("launch", "--stop", "small", code=2)
    assert "name the study" in project.hpo("launch", code=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    reason = slurm_cluster.missing()
    pytest.importorskip("submitit", reason="no submitit: pip install 'hpo-studies[slurm]'")
    if reason:
        pytest.skip(reason)
    cluster = SlurmCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def on_slurm(tmp_path: Path, cluster: SlurmCluster) -> Iterator[Project]:
    folder = tmp_path / "project"
    folder.mkdir()
    yield Project(folder, cluster.environment)
    cluster.run("scancel", "--signal=KILL", "--full", "--user=root", check=False)
    cluster.run("scancel", "--user=root", check=False)


def test_slurm_cancels_and_the_leases_are_released(on_slurm: Project) -> None:
    on_slurm.write(epochs=5000, trials=4)
    on_slurm.hpo("launch", "small", "--workers", "2", "--on", "slurm", "--time", "10m")
    wait_for(lambda: on_slurm.counts().get("leased"))
    assert on_slurm.states() == ["running", "running"]
    on_slurm.hpo("launch", "--stop", "small")
    assert wait_for(lambda: not on_slurm.counts().get("leased")) < 5
    assert set(on_slurm.counts()) == {"open"}
    wait_for(lambda: on_slurm.states() == ["ended", "ended"])
    on_slurm.write(epochs=1, trials=4)


def test_a_preempted_worker_is_requeued_and_the_study_completes(on_slurm: Project, cluster: SlurmCluster) -> None:
    on_slurm.write(epochs=400, trials=4)
    on_slurm.hpo("launch", "small", "--workers", "1", "--on", "slurm", "--time", "10m")
    wait_for(lambda: on_slurm.counts().get("leased"))
    urgent = re.findall(
        r"\d+", cluster.run("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 3")
    )[0]
    wait_for(lambda: not on_slurm.counts().get("leased"))
    wait_for(lambda: urgent not in cluster.run("squeue", "--noheader", "--format=%i"))
    wait_for(lambda: on_slurm.states() == ["pending"])  # a requeued job starts after two minutes, or when told to
    job = cluster.run("squeue", "--noheader", "--format=%A").split()[0]
    cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_for(lambda: on_slurm.states() == ["ended"], 180)
    on_slurm.assert_complete(4)


def test_a_worker_whose_time_is_over_exits_with_0_without_requeue(on_slurm: Project, cluster: SlurmCluster) -> None:
    on_slurm.write(epochs=100000, trials=4)
    on_slurm.hpo("launch", "small", "--on", "slurm", "--time", "1m", "--no-requeue")
    job = cluster.run("squeue", "--noheader", "--format=%A").split()[0]
    wait_for(lambda: on_slurm.states() == ["ended"])
    assert "ExitCode=0:0" in cluster.run("scontrol", "show", "job", job)
    assert "work is left" in on_slurm.hpo("launch", "--logs", "small")
    assert set(on_slurm.counts()) == {"open"}
