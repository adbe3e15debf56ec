"""What Slurm does to workers, on a real node: each sentence of hpo/worker/README.md on Slurm, with exact numbers.

Two forms of a worker share a study: a task of `hpo launch`, which is a job step, and a batch script `exec WORKER`.
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import storage_worker
from slurm_cluster import SlurmCluster
from storage_checks import check
from storage_study import make
from storage_worker import read_logs
from waiting import wait_for

import hpo
from hpo.launch import slurm as slurm_engine
from hpo.launch.launch import Launch, new_launch, save
from hpo.launch.slurm import Slurm
from hpo.storage.database import connect

ROOT = Path(hpo.__file__).parents[1]
LONG = 300.0  # seconds that a slot trains: until a signal comes; a requeued worker trains at once


class Shared:
    """A study of 12 slots and the jobs that work on it."""

    def __init__(self, cluster: SlurmCluster, folder: Path) -> None:
        self.cluster, self.folder, self.url = cluster, folder, f"sqlite:///{folder}/t.db"
        self.ledger = make(connect(self.url), trials=4, seeds=2)
        self.workers = 0

    def command(self, seconds: float = LONG) -> list[str]:
        self.workers += 1
        log = self.folder / f"{self.workers}.log"
        return [sys.executable, storage_worker.__file__, self.url, str(log), str(self.workers), str(seconds)]

    def launch(self, **options: Any) -> Launch:
        """A task of `hpo launch`."""
        launch = new_launch("s", "slurm", self.command(), 1)
        return save(launch, Slurm(**options).start(launch))

    def batch(self, *options: str) -> str:
        """The number of a job with `exec WORKER`."""
        words = ["sbatch", "--parsable", f"--output={self.folder}/batch.txt", "--time=10", *options]
        return self.cluster.run(*words, "--wrap", f"exec {shlex.join(self.command())}").strip()

    def urgent(self, cpus: int) -> str:
        """The number of a short job that needs that many CPUs, for which jobs of the partition "low" are preempted."""
        words = ["sbatch", "--parsable", "--partition=high", f"--cpus-per-task={cpus}", "--output=/dev/null"]
        return self.cluster.run(*words, "--wrap", "sleep 1").strip()

    def leased(self) -> int:
        return sum(slot["state"] == "leased" for slot in self.ledger.export()["slots"])

    def wait_for_leases(self) -> None:
        wait_for(lambda: self.leased() == self.workers)

    def states(self, *jobs: str) -> list[str]:
        return [self.cluster.job(job)["JobState"] for job in jobs]

    def finish(self, start: bool = True) -> None:
        """Lets one more worker (or only those that Slurm requeues) finish the study, and checks all its tables."""
        if start:
            subprocess.run(self.command(0.0), check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        wait_for(lambda: self.ledger.state() == "done")
        wait_for(lambda: not self.cluster.run("squeue", "--noheader"))
        check(self.ledger, self.url, read_logs(self.folder))
        assert {slot["attempt"] for slot in self.ledger.export()["slots"]} == {1}  # each lease was released


@pytest.fixture
def shared(cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shared:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return Shared(cluster, tmp_path)


def job_of(launch: Launch) -> str:
    return str(launch.data["jobs"][0])


def test_scancel_releases_the_leases(shared: Shared) -> None:
    launch, batch = shared.launch(), shared.batch()
    shared.wait_for_leases()
    Slurm().stop(launch)
    shared.cluster.run("scancel", batch)
    assert wait_for(lambda: not shared.leased()) < 5
    wait_for(lambda: shared.states(job_of(launch), batch) == ["CANCELLED", "CANCELLED"])
    shared.finish()


def test_scancel_with_a_signal_reaches_a_batch_script_only_if_told_to(shared: Shared) -> None:
    launch, batch = shared.launch(), shared.batch()
    shared.wait_for_leases()
    shared.cluster.run("scancel", "--signal=TERM", job_of(launch), batch)
    assert wait_for(lambda: shared.leased() == 1) < 5
    wait_for(lambda: shared.states(job_of(launch), batch) == ["FAILED", "RUNNING"])
    shared.cluster.run("scancel", "--signal=TERM", "--batch", batch)
    assert wait_for(lambda: not shared.leased()) < 5
    wait_for(lambda: shared.states(batch) == ["FAILED"])
    shared.finish()


def test_requeued_jobs_release_their_leases_and_continue(shared: Shared) -> None:
    jobs = [job_of(shared.launch()), shared.batch("--requeue")]
    shared.wait_for_leases()
    shared.cluster.run("scontrol", "requeue", ",".join(jobs))
    assert wait_for(lambda: not shared.leased()) < 5
    shared.finish(start=False)
    assert [shared.cluster.job(job)["Restarts"] for job in jobs] == ["1", "1"]


def test_a_preempted_step_asks_for_its_requeue(shared: Shared) -> None:
    job = job_of(shared.launch())
    shared.wait_for_leases()
    urgent = shared.urgent(8)
    wait_for(lambda: shared.cluster.was_preempted(job))
    assert wait_for(lambda: not shared.leased()) < 5
    wait_for(lambda: shared.states(urgent) == ["COMPLETED"], 10)  # it need not wait for the end of the grace time
    shared.finish(start=False)
    assert shared.cluster.job(job)["Restarts"] == "1"


def test_a_node_set_down_loses_nothing(shared: Shared) -> None:
    jobs = [job_of(shared.launch()), shared.batch("--requeue")]
    shared.wait_for_leases()
    shared.cluster.run("scontrol", "update", f"NodeName={shared.cluster.node}", "State=DOWN", "Reason=test")
    assert wait_for(lambda: not shared.leased()) < 5
    shared.finish(start=False)  # the node's daemon reports to the controller, which takes the node back
    assert [shared.cluster.job(job)["Restarts"] for job in jobs] == ["1", "1"]


def test_limits_that_slurm_checks_every_30_s(shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit, a warning before it, and the end of a grace time."""
    fixed = ["--partition=high"]  # where nothing is preempted
    over, warned = shared.batch(*fixed), shared.batch(*fixed, "--signal=B:USR1@20")
    task, shortened = (job_of(shared.launch(partition="high")) for _ in range(2))
    preempted = shared.batch("--requeue")
    refusing = tmp_path / "scontrol"
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    with monkeypatch.context() as context:
        context.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        staying = job_of(shared.launch())  # it cannot ask for its requeue
    jobs = [over, warned, preempted, staying, task, shortened]
    shared.wait_for_leases()
    for job, seconds in ((over, 1), (shortened, 1), (warned, 34), (task, 34)):
        shared.cluster.run("scontrol", "update", f"JobId={job}", f"EndTime=now+{seconds}")
    shared.urgent(4)
    late = 0.0
    while leased := shared.leased():
        running = shared.states(*jobs).count("RUNNING")
        time.sleep(0.2)
        late = late + 0.2 if leased > running else 0.0
        assert late < 5
    shared.finish(start=False)
    assert shared.states(*jobs) == ["TIMEOUT", "FAILED", *["COMPLETED"] * 4]
    requeued = [shared.cluster.job(job)["Restarts"] != "0" for job in jobs]
    assert requeued == [False, False, *[True] * 4]


def test_at_the_end_of_its_time_a_task_asks_for_its_requeue_or_exits_with_0(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_engine, "_working_seconds", lambda _: 4)
    again, once = job_of(shared.launch()), job_of(shared.launch(requeue=False))
    words = ["sbatch", "--parsable", f"--dependency=afterok:{once}", "--output=/dev/null", "--wrap=true"]
    after = shared.cluster.run(*words).strip()
    wait_for(lambda: shared.states(after) == ["COMPLETED"])
    shared.finish(start=False)
    assert shared.states(again, once) == ["COMPLETED", "COMPLETED"]
    assert [shared.cluster.job(job)["Restarts"] for job in (again, once)] == ["1", "0"]
