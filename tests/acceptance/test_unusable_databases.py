"""A database that cannot be used is one sentence of the command line, before any training."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from command_line import CommandLine
from fork_server import ROOT, ForkServer
from postgres_server import PostgresServer
from storage_checks import check
from storage_study import make
from storage_worker import read_logs
from worker_processes import check_end, start_worker, wait_for_training

from hpo.storage import schema
from hpo.storage.database import connect

GNVR = str(ROOT / "studies" / "gnvr.py")
STUDY = """
from hpo import MLP, Configuration, Mnist1d, Study
STUDY = Study(data=Mnist1d(samples=100), model=MLP((40, 10)), tuning_runs=1, baseline="A", configurations=(
    Configuration("A"), Configuration("B", regularizer="sam")))
"""
Refused = Callable[..., str]


@pytest.fixture
def refused(fork_server: ForkServer, tmp_path: Path) -> Refused:
    """Runs a command that must fail with exit code 1 or 2; returns its one sentence."""
    hpo = CommandLine(fork_server, tmp_path / "work")
    hpo.write_study("small", STUDY)

    def run(url: str, *words: str) -> str:
        child = hpo.start(*words, HPO_STORAGE=url)
        assert child.wait() in (1, 2), child.text()
        lines = child.text().splitlines()
        assert len(lines) == 1 and lines[0].startswith("hpo: "), child.text()
        return lines[0]

    return run


@pytest.mark.parametrize("command", [("status",), ("report", "s"), ("worker", "small"), ("run", "small")])
def test_another_versions_schema(url: str, command: tuple[str, ...], refused: Refused) -> None:
    make(connect(url))
    with connect(url).begin() as connection:
        connection.execute(sa.update(schema.version).values(version=schema.VERSION + 1))
    assert f"has schema {schema.VERSION + 1} and this version of hpo reads {schema.VERSION}" in refused(url, *command)


def test_a_wrong_password(postgresql: PostgresServer, refused: Refused) -> None:
    said = refused(postgresql.url("postgres", password="s3cret"), "status")
    assert "password authentication failed" in said and "s3cret" not in said


def test_no_server_there(refused: Refused) -> None:
    assert "Connection refused" in refused("postgresql://u:s3cret@127.0.0.1:1/d", "status")
    assert "no.host.invalid" in refused("postgresql://u:s3cret@no.host.invalid/d", "status")


def test_no_such_database(postgresql: PostgresServer, refused: Refused) -> None:
    assert 'database "absent" does not exist' in refused(postgresql.url("absent"), "status")


def test_no_such_folder(tmp_path: Path, refused: Refused) -> None:
    assert f"{tmp_path}/absent of the database does not exist" in refused(f"sqlite:///{tmp_path}/absent/t.db", "status")


def test_no_database_but_a_file(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "t.db").write_text("once upon a time " * 100)
    assert "file is not a database" in refused(f"sqlite:///{tmp_path}/t.db", "status")


@pytest.mark.skipif(sys.platform != "linux", reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path, fork_server: ForkServer) -> None:
    folder = tmp_path / "fixed"
    folder.mkdir()
    url = f"sqlite:///{folder}/t.db"
    folder.chmod(0o500)
    environment = {"HPO_STORAGE": url, "PYTHONPATH": str(ROOT)}
    child = fork_server.start("unprivileged:run", "status", output=tmp_path / "said.txt", environment=environment)
    assert child.wait() == 1 and child.text().count("\n") == 1
    assert f"hpo: {folder}/t.db cannot be written; change its permissions, or use another --storage" in child.text()
    folder.chmod(0o700)


def run_limited(size: int, *words: str) -> None:
    """The command line where no file may grow beyond `size` bytes."""
    from command_line import command

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    command(*words)


def test_files_that_may_not_grow(tmp_path: Path, fork_server: ForkServer) -> None:
    environment = {"HPO_STORAGE": f"sqlite:///{tmp_path}/t.db"}
    child = fork_server.start(
        f"{__name__}:run_limited", 8192, "worker", GNVR, output=tmp_path / "said.txt", environment=environment
    )
    assert child.wait() == 1 and child.text().count("\n") == 1, child.text()
    assert child.text().startswith(f"hpo: the database sqlite:///{tmp_path}/t.db cannot be used (")


def mounts(folder: Path) -> bool:
    """Whether this process may mount a file system in its own name space."""
    if shutil.which("unshare") is None:
        return False
    mount = f"mount -t tmpfs tmpfs {folder}"
    return subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode == 0


def test_a_full_disk(tmp_path: Path) -> None:
    if not mounts(tmp_path):
        pytest.skip("nothing may be mounted here")
    script = f"mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec {sys.executable} -m hpo worker {GNVR}"
    environment = os.environ | {"HPO_STORAGE": f"sqlite:///{tmp_path}/t.db", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stdout == "", done.stderr
    assert "(database or disk is full)" in done.stderr or "(disk I/O error)" in done.stderr


def test_a_disk_that_fills_up_during_the_work(tmp_path: Path, fork_server: ForkServer) -> None:
    """The worker ends with a sentence; as soon as there is room, another one resumes."""
    url = f"sqlite:///{tmp_path}/t.db"
    ledger = make(connect(url), trials=12, seeds=2)
    worker = start_worker(fork_server, url, tmp_path, 0, seconds=(0.1, 0.2))
    wait_for_training(worker)
    size = (tmp_path / "t.db-wal").stat().st_size
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, size))
    assert worker.wait() == 1
    assert worker.text().count("\n") == 1 and worker.text().startswith("hpo: the database "), worker.text()

    check_end(start_worker(fork_server, url, tmp_path, 1))
    check(ledger, url, read_logs(tmp_path))
