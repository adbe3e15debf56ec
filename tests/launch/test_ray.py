"""What a real Ray cluster does to workers: each sentence of hpo/worker/README.md on Ray, with exact numbers."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from launched_project import Project
from postgres_server import PostgresServer
from ray_cluster import RayCluster
from waiting import wait_for

from hpo.errors import UsageError
from hpo.launch.launch import check_reachable
from hpo.launch.local import Local

pytest.importorskip("ray", reason="no ray: pip install 'hpo-studies[ray]'")
TRIALS = 4
SOON, LONG = 400, 100_000  # epochs: long enough for what happens to the workers; without end


class RayProject(Project):
    """A project whose workers run on a Ray cluster."""

    def __init__(self, folder: Path, cluster: RayCluster) -> None:
        super().__init__(folder, RAY_ADDRESS=cluster.address)
        self.cluster = cluster

    def launch(self, *arguments: str) -> None:
        """Starts workers."""
        said = self.hpo("launch", "small", "--on", "ray", "--device", "cpu", *arguments)
        self.name = said.partition(":")[0]

    def workers(self, node: str = "") -> dict[int, psutil.Process]:
        """The running workers of a node, by number."""
        found = {}
        for process in self.cluster.processes(node):
            with suppress(psutil.Error):
                if "worker" in process.cmdline():
                    found[int(process.environ()["HPO_LAUNCH"].rpartition("-")[2])] = process
        return found

    def leased_by(self, process: psutil.Process) -> int:
        """How many slots a worker holds."""
        holders = [str(slot["worker_id"]) for slot in self.slots() if slot["state"] == "leased"]
        return sum(holder.split(":")[1:2] == [str(process.pid)] for holder in holders)

    def wait_for_leases(self, count: int, node: str = "") -> dict[int, psutil.Process]:
        """Waits until that many workers of a node train; returns them."""
        wait_for(lambda: sum(self.leased_by(worker) > 0 for worker in self.workers(node).values()) >= count)
        return self.workers(node)

    def assert_released(self, process: psutil.Process) -> None:
        """Asserts that a worker ends and releases its leases within 5 s of now."""
        assert wait_for(lambda: not self.leased_by(process) and not _runs(process), 10) < 5

    def finish(self) -> None:
        """Waits until the study is complete and the workers have ended."""
        wait_for(lambda: set(self.counts()) == {"done"}, 240)
        self.assert_complete(TRIALS)
        wait_for(lambda: not self.workers(), 30)
        assert set(self.states()) == {"ended"}


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[RayCluster]:
    cluster = RayCluster(cpus=2)
    yield cluster
    cluster.close()


@pytest.fixture
def project(tmp_path: Path, ray_cluster: RayCluster) -> Iterator[RayProject]:
    (tmp_path / "project").mkdir()
    project = RayProject(tmp_path / "project", ray_cluster)
    yield project
    nodes = [process for node in ("second", "third", "fourth") for process in ray_cluster.processes(node)]
    for process in nodes:
        with suppress(psutil.Error):
            process.kill()
    if nodes:  # workers of the next test must not wait for a node that is gone
        wait_for(lambda: ray_cluster.alive_nodes() == 1)


@pytest.fixture
def shared(project: RayProject, postgresql: PostgresServer) -> Iterator[RayProject]:
    """A project with a database that all hosts reach."""
    project.url = project.environment["HPO_STORAGE"] = postgresql.create()
    yield project


def test_a_study_in_a_folder_below_is_found_on_the_nodes(project: RayProject) -> None:
    project.write(1, TRIALS)
    (project.folder / "mine").mkdir()
    study = (project.folder / "studies" / "small.py").rename(project.folder / "mine" / "small.py")
    project.hpo("launch", str(study), "--on", "ray")
    project.finish()
    outside = project.folder.parent / "outside.py"
    study.rename(outside)
    assert "not in this folder" in project.hpo("launch", str(outside), "--on", "ray", code=2)


def test_killed_workers_and_actors_are_started_again(project: RayProject) -> None:
    project.write(SOON, TRIALS)
    project.launch("--workers", "3", "--cpus", "0.5", "--population", "2")
    workers = project.wait_for_leases(3)
    actors = {number: worker.parent() for number, worker in workers.items()}
    workers[1].kill()
    for number, end in ((2, psutil.Process.kill), (3, psutil.Process.terminate)):
        actor = actors[number]
        assert actor is not None and actor.name().startswith("ray::")
        end(actor)
        project.assert_released(workers[number])
    before = {worker.pid for worker in workers.values()}
    wait_for(lambda: {1, 2, 3} <= set(project.workers()))
    assert before.isdisjoint(worker.pid for worker in project.workers().values())
    project.finish()
    logs = project.hpo("launch", "--logs", project.name)
    assert "exit code 137; Ray starts it again" in logs and len(re.findall("worker started on", logs)) == 6


def test_workers_of_lost_nodes_release_their_leases_and_wait_for_another_node(shared: RayProject) -> None:
    shared.write(SOON, TRIALS)
    gpu = ("--num-cpus=0", "--num-gpus=1")
    shared.cluster.add("second", *gpu)
    shared.launch("--cpus", "0", "--gpus", "1")
    worker = shared.wait_for_leases(1, "second")[1]
    shared.cluster.kill_raylet("second")
    shared.assert_released(worker)
    assert shared.states() == ["pending"]
    shared.cluster.add("third", *gpu)
    worker = shared.wait_for_leases(1, "third")[1]
    stopping = shared.cluster.stop("third")
    shared.assert_released(worker)
    assert stopping.wait(60) == 0
    shared.cluster.add("fourth", *gpu)
    shared.finish()


def test_workers_wait_for_gpus_get_one_each_and_stay_where_their_database_is(
    shared: RayProject, tmp_path: Path
) -> None:
    (tmp_path / "local").mkdir()
    local = RayProject(tmp_path / "local", shared.cluster)  # with a SQLite file, which other hosts cannot use
    for project in (shared, local):
        project.write(LONG, TRIALS)
        project.launch("--workers", "2", "--gpus", "1")
    assert local.states() == shared.states() == ["pending", "pending"]
    shared.cluster.add("second", "--num-cpus=4", "--num-gpus=4", "--node-ip-address=127.0.0.2")
    workers = shared.wait_for_leases(2)
    assert len({worker.environ()["CUDA_VISIBLE_DEVICES"] for worker in workers.values()}) == 2
    assert shared.states() == ["running", "running"] and local.states() == ["pending", "pending"]
    status = shared.hpo("status", "small")
    assert all(f"ray {shared.name}-{number})" in status for number in (1, 2)), status
    shared.hpo("launch", "--stop", "small")
    assert set(shared.counts()) == {"open"} and not any(map(_runs, workers.values()))
    assert "trials and reruns were released" in shared.hpo("launch", "--logs", "small")
    local.hpo("launch", "--stop", "small")
    assert local.states() == shared.states() == ["ended", "ended"]


def test_a_node_without_hpo_is_reported_at_once(shared: RayProject) -> None:
    broken = shared.folder.parent / "broken" / "hpo"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('there is no hpo here')")
    shared.write(LONG, TRIALS)
    shared.cluster.add("second", "--num-gpus=1", PYTHONPATH=str(broken.parent))
    said = shared.hpo("launch", "small", "--on", "ray", "--gpus", "1", code=1)
    assert "there is no hpo here" in said and "Traceback" not in said


def test_an_address_without_a_cluster_is_reported_at_once(project: RayProject) -> None:
    project.write(1, TRIALS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        start = time.monotonic()
        assert address in project.hpo("launch", "small", "--on", "ray", "--address", address, code=1)
    assert time.monotonic() - start < 20


class TwoHosts(Local):
    """An engine whose workers may run here and elsewhere."""

    def hosts(self) -> set[str]:
        return {socket.gethostname(), "elsewhere"}


def test_a_file_as_database_is_refused_on_more_than_one_host() -> None:
    with pytest.raises(UsageError, match=r"sqlite:///hpo\.db.*elsewhere.*postgresql://"):
        check_reachable("sqlite:///hpo.db", TwoHosts())
    check_reachable("postgresql://user@host/name", TwoHosts())


def test_a_cluster_that_ends_leaves_no_leases_and_the_list_says_so(project: RayProject) -> None:
    # Ends the cluster of this file's tests, so it is the last of them.
    project.write(SOON, TRIALS)
    project.launch()
    worker = project.wait_for_leases(1)[1]
    stopping = project.cluster.stop("head")
    project.assert_released(worker)
    assert stopping.wait(60) == 0
    assert "no connection to a Ray cluster" in project.hpo("launch", "--list")
    project.hpo("worker", "small")
    project.assert_complete(TRIALS)
