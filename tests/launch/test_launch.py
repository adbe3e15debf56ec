"""Workers started by one command: as processes here, and on a real one-node Slurm."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, wait_for

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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/hpo.db"
        cache = str(folder.parent.parent / "cache")
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "HPO_CACHE": cache, "HPO_STORAGE": self.url}
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


def test_a_mistake_in_the_study_is_said_at_once_and_nothing_starts(project: Project) -> None:
    project.write(epochs=-1, trials=4)
    assert "epochs" in project.hpo("launch", "small", code=2)
    assert "no launches" in project.hpo("launch", "--list")
    assert "no launch 'small'" in project.hpo("launch", "--stop", "small", code=2)
    assert "name the study" in project.hpo("launch", code=2)


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
    wait_for(lambda: cluster.job(own)["PreemptTime"] != "None")
    assert wait_for(lambda: not project.counts().get("leased")) < 5
    wait_for(lambda: cluster.job(urgent.strip())["JobState"] == "COMPLETED", 20)
    assert cluster.job(own)["Restarts"] == "1" and project.states() == ["pending", "pending"]
    assert "--- worker 2" in project.hpo("launch", "--logs", "small")
    project.hpo("launch", "--stop", "small")
    wait_for(lambda: project.states() == ["ended", "ended"])
    assert set(project.counts()) == {"open"}
