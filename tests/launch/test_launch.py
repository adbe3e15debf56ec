"""Workers started by one command: as processes here, and on a real one-node Slurm."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launched_project import Project
from slurm_cluster import SlurmCluster
from waiting import wait_for

from hpo import cli
from hpo.errors import HpoError, UsageError
from hpo.launch import slurm
from hpo.launch.launch import new_launch, save
from hpo.launch.local import Local
from hpo.launch.slurm import Slurm
from hpo.storage.ledger import load_study, new_worker_id


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
    project.hpo("launch", "--stop", "studies/small.py")
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


@pytest.mark.parametrize(
    ("words", "way"),
    [
        ("--on slurm --gpus 1", "--gpus-per-node"), ("--on ray --gpus-per-node 1", "give --gpus"),
        ("--partition gpu", "--on slurm"), ("--time 2h", "--on slurm"), ("--no-requeue", "--on slurm"),
        ("--gpus 0", "--device cuda"), ("--on slurm --address auto", "--on ray"), ("--cpus 2", "--threads"),
    ],
)  # fmt: skip
def test_an_option_of_another_engine_is_refused(words: str, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["hpo", "launch", "gnvr", *words.split()])
        cli.main()
    message = capsys.readouterr().err
    assert caught.value.code == 2 and message.count("\n") == 1 and way in message


@pytest.mark.filterwarnings("ignore:subprocess .* is still running")  # a launch does not wait for its workers
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_workers_of_this_machine_use_all_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device, devices in (("auto", ["cuda:0", "cuda:1", "cuda:0"]), ("cuda:1", ["cuda:1"] * 3)):
        launch = new_launch("small", "local", [sys.executable, "-c", "import sys; print(*sys.argv[1:])"], 3)
        launch.folder.mkdir(parents=True)
        launch = save(launch, Local(device).start(launch))
        wait_for(lambda each=launch: all(Local().logs(each)))
        assert [text.split() for text in Local().logs(launch)] == [["--device", each] for each in devices]


def test_the_report_of_a_launched_study_has_the_options_of_its_launch(project: Project) -> None:
    project.write(epochs=1, trials=4)
    project.hpo("launch", "studies/small.py", "--name", "quick", "--epochs", "2000")
    project.hpo("launch", "--stop", "quick")
    assert load_study(project.engine, "quick").text["command"] == "hpo run studies/small.py --epochs 2000 --name quick"


def test_what_slurm_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="no submitit: pip install 'hpo-studies[slurm]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    launch = new_launch("small", "slurm", ["hpo"], 1)
    with pytest.raises(UsageError, match="no srun here"):
        Slurm().start(launch)
    refused = "echo warning >&2; echo sbatch: error: invalid partition specified: gpu >&2; exit 1"
    for name, script in (("srun", "exit 0"), ("sbatch", refused), ("sinfo", "exec /bin/sleep 10")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(HpoError, match=r"^[^\n]*invalid partition specified: gpu[^\n]*--partition[^\n]*$"):
        Slurm("gpu").start(launch)
    monkeypatch.setattr(slurm, "TIMEOUT", 0.2)
    with pytest.raises(HpoError, match="sinfo did not answer"):
        Slurm().hosts()


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
