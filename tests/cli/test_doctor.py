"""The doctor: every broken thing is found before it does harm, told in one sentence, and nothing is left behind."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import torch
from postgres_server import PostgresServer
from storage_study import make

from hpo.cli.doctor import Check, as_text, device, examine, folders, packages, storage
from hpo.cli.doctor.check import guarded
from hpo.cli.doctor.device import check_device
from hpo.cli.doctor.folders import check_folder, check_folders
from hpo.cli.doctor.packages import check_packages
from hpo.cli.doctor.storage import check_storage
from hpo.storage import schema
from hpo.storage import url as storage_url
from hpo.storage.database import connect

USED = shutil.disk_usage("/")


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A SQLite database with one study."""
    url = f"sqlite:///{tmp_path}/t.db"
    engine = connect(url)
    make(engine)
    engine.dispose()
    return url


@pytest.fixture
def server_url(postgresql: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database with one study."""
    url = postgresql.create()
    engine = connect(url)
    make(engine)
    engine.dispose()
    yield url
    postgresql.drop(url)


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def only(checks: list[Check], state: str, words: str) -> None:
    """Holds that there is one check, of that state, with those words."""
    assert len(checks) == 1 and checks[0].state == state, checks
    assert words in checks[0].text and "\n" not in checks[0].text


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sound_file_is_left_as_it_was(file_url: str, tmp_path: Path) -> None:
    before = contents(tmp_path)
    only(check_storage(file_url), "ok", f"schema {schema.VERSION} with 1 study, can be written")
    assert contents(tmp_path) == before


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    only(check_storage(f"sqlite:///{tmp_path}/t.db"), "ok", "will be made")
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_tables_or_log_stays_so(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = contents(tmp_path)
    only(check_storage(f"sqlite:///{tmp_path}/t.db"), "ok", "without hpo's tables")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "no URL"),
        ("mysql://u:s3cret@h/d", "sqlite:///"),
        ("sqlite://", "needs a file"),
        ("sqlite:////no/such/folder/t.db", "does not exist"),
        ("sqlite:////proc/t.db", "write-ahead log"),
        ("postgresql://u:s3cret@127.0.0.1:1/d", "cannot be used"),
        ("postgresql://u:s3cret@no-such-host.invalid/d", "cannot be used"),
        ("postgresql://u:s3cret@h:port/d", "no URL"),
        ("postgresql://u@127.0.0.1:1/d?password=s3cret", "cannot be used"),
        ("postgresql://u:s3cret@127.0.0.1:1/d?nonsense=1", "nonsense"),
    ],
)
def test_a_storage_that_cannot_be_used(url: str, words: str, tmp_path: Path) -> None:
    checks = examine(url, "cpu", tmp_path)
    only([check for check in checks if check.name == "storage"], "fails", words)
    assert "s3cret" not in as_text(checks)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_text("once upon a time " * 100)
    only(check_storage(f"sqlite:///{tmp_path}/t.db"), "fails", "not a database")


def test_a_network_file_system(file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_url, "file_system", lambda _: "nfs4")
    only(check_storage(file_url), "fails", "network file system (nfs4)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(file_url: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    only(check_storage(file_url), "fails", "cannot be written")
    assert check_folder("reports", tmp_path / "reports", "elsewhere").state == "fails"


def test_a_newer_schema(file_url: str, server_url: str) -> None:
    for url in (file_url, server_url):
        engine = connect(url)
        with engine.begin() as connection:
            connection.execute(sa.update(schema.version).values(version=99))
        engine.dispose()
        only(check_storage(url), "fails", f"has schema 99 and this version of hpo reads {schema.VERSION}")


def test_a_file_that_another_program_keeps_locked(file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LOCKED", 0.1)
    holder = sqlite3.connect(file_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    only(check_storage(file_url), "warning", "locked")
    holder.execute("ROLLBACK")
    holder.close()
    only(check_storage(file_url), "ok", "can be written")


def test_a_sound_server_is_left_as_it_was(server_url: str) -> None:
    def tables() -> list[str]:
        with engine.connect() as connection:
            return sorted(sa.inspect(connection).get_table_names())

    engine = sa.create_engine(server_url.replace("postgresql:", "postgresql+psycopg:"))
    before = tables()
    checks = check_storage(server_url)
    assert states(checks) == dict.fromkeys(("storage", "tables", "connections", "round trip", "clock"), "ok")
    assert "PostgreSQL" in checks[0].text and "with 1 study" in checks[0].text
    assert tables() == before and "hpo_slots" in before
    engine.dispose()


def test_a_wrong_password_and_a_missing_database(postgresql: PostgresServer) -> None:
    only(check_storage(postgresql.url("postgres", password="wr0ng")), "fails", "password authentication failed")
    checks = check_storage(postgresql.url("nowhere"))
    only(checks, "fails", 'database "nowhere" does not exist')
    assert postgresql.password not in as_text(checks)


def test_a_user_who_may_make_no_tables(server_url: str, postgresql: PostgresServer) -> None:
    postgresql.execute("CREATE ROLE reader LOGIN PASSWORD 's3cret'", "GRANT pg_read_all_data TO reader")
    try:
        checks = check_storage(postgresql.url(server_url.rpartition("/")[2], "reader", "s3cret"))
    finally:
        postgresql.execute("DROP ROLE reader")
    assert states(checks) | {"tables": "fails"} == states(checks) and states(checks)["storage"] == "ok"
    assert "grant CREATE" in as_text(checks) and "s3cret" not in as_text(checks)


@pytest.mark.parametrize(("limit", "state"), [(2, "fails"), (12, "warning"), (50, "ok")])
def test_connections_that_run_out(server_url: str, postgresql: PostgresServer, limit: int, state: str) -> None:
    postgresql.execute(f"ALTER DATABASE {server_url.rpartition('/')[2]} CONNECTION LIMIT {limit}")
    assert states(check_storage(server_url))["connections"] == state


def test_a_server_that_is_slow_old_and_in_another_time(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = storage.now
    monkeypatch.setattr(storage, "SLOW", 0.0)
    monkeypatch.setattr(storage, "TESTED", (99,))
    monkeypatch.setattr(storage, "now", lambda connection: real(connection) + 60)
    found = {check.name: check for check in check_storage(server_url)}
    assert {name for name, check in found.items() if check.state == "warning"} == {"server", "round trip", "clock"}
    assert found["clock"].text.startswith(("60.0 s behind", "59.9 s behind"))


@pytest.mark.parametrize(("free", "state"), [(10**7, "fails"), (5 * 10**8, "warning"), (10**12, "ok")])
def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: USED._replace(free=free))
    monkeypatch.setenv("HPO_CHECKPOINTS", str(tmp_path))
    found = check_folders(f"sqlite:///{tmp_path}/t.db", tmp_path / "reports")
    assert states(found) == dict.fromkeys(("database", "reports", "data sets", "checkpoints"), state)


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for name in ("HPO_DATA", "HPO_CHECKPOINTS"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    found = check_folders(f"sqlite:///{tmp_path}/t.db", Path("/proc/reports"))
    assert states(found) == {"database": "ok", "reports": "fails", "data sets": "fails", "checkpoints": "fails"}
    assert "--reports" in found[1].text and "HPO_DATA" in found[2].text and "HPO_CHECKPOINTS" in found[3].text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_checkpoints_that_other_machines_cannot_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_CHECKPOINTS", str(tmp_path))
    for kind, url, state in (
        ("ext4", "postgresql://u@h/d", "warning"),
        ("nfs4", "postgresql://u@h/d", "ok"),
        ("ext4", f"sqlite:///{tmp_path}/t.db", "ok"),
    ):
        monkeypatch.setattr(folders, "file_system", lambda _, kind=kind: kind)
        assert states(check_folders(url, tmp_path))["checkpoints"] == state


def test_the_device_computes_and_has_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    only(check_device("cpu"), "ok", "of memory free" if sys.platform == "linux" else "computes")
    monkeypatch.setattr(device, "_free_memory", lambda: 10**7)
    only(check_device("cpu"), "warning", "10 MB of memory left")
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda *_: torch.zeros(1, requires_grad=True).expand(64, 64))
    only(check_device("cpu"), "fails", "computes a wrong product")


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(device, "_has_gpu", lambda: False)
    only(check_device("tpu"), "fails", "--device is 'tpu'")
    only(check_device("cuda"), "fails", "0 CUDA devices")
    assert states(check_device("auto")) == {"device": "ok"}

    monkeypatch.setattr(device, "_has_gpu", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", None)
    only(check_device("cuda"), "fails", "built without CUDA")
    only(check_device("auto")[1:], "warning", "built without CUDA")
    assert len(check_device("cpu")) == 1, "who asks for the CPU need not hear of a GPU"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    only(check_device("auto")[1:], "warning", "CUDA_VISIBLE_DEVICES")


def test_a_device_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access\nmany\nlines")

    monkeypatch.setattr(torch, "ones", broken)
    only(check_device("cpu"), "fails", "does not compute (CUDA error: an illegal memory access)")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_every_gpu_is_tried() -> None:
    assert [check.state for check in check_device("auto")] == ["ok"] * torch.cuda.device_count()


def test_packages_outside_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    only(check_packages(), "ok", "in their ranges")
    real = packages.version
    monkeypatch.setattr(packages, "version", lambda name: "1.0" if name == "torch" else real(name))
    only(check_packages(), "fails", "torch 1.0 is outside of what hpo is made for: pip install 'torch>=")

    def missing(name: str) -> str:
        if name == "waitress":
            raise packages.PackageNotFoundError
        return real(name)

    monkeypatch.setattr(packages, "version", missing)
    only(check_packages(), "fails", "waitress is not installed: pip install 'waitress>=")
    monkeypatch.setattr(packages, "version", real)
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.9.1")
    only(check_packages(), "fails", "this is Python 3.9.1")
    monkeypatch.setattr(packages, "requires", lambda _: missing("waitress"))
    only(check_packages(), "warning", "not installed")


def test_what_was_not_foreseen_hides_nothing_and_tells_no_secret() -> None:
    def look() -> list[Check]:
        raise KeyError("s3cret")

    only(list(guarded("x", look)), "fails", "KeyError")
    assert "s3cret" not in str(guarded("x", look))


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HPO_")} | variables
    command = [sys.executable, "-m", "hpo", "doctor", "--device", "cpu", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_the_command_tells_by_its_exit_code(tmp_path: Path) -> None:
    sound = run(tmp_path, HPO_CACHE=str(tmp_path))
    assert sound.returncode == 0 and sound.stderr == "", sound.stderr
    assert [line.split()[0] for line in sound.stdout.splitlines()] == ["ok"] * 6
    assert list(tmp_path.iterdir()) == []

    secret = {"HPO_STORAGE": "postgresql://u:s3cret@127.0.0.1:1/d", "PGPASSWORD": "s3cret", "HPO_CACHE": str(tmp_path)}
    broken = run(tmp_path, "--json", **secret)
    assert broken.returncode == 1 and "s3cret" not in broken.stdout + broken.stderr
    found = {check["name"]: check for check in json.loads(broken.stdout)}
    assert found["storage"]["state"] == "fails" and found["storage"]["text"].startswith(
        "the database postgresql://u:***@"
    )


def test_it_works_where_pytorch_does_not(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: cannot open shared object file')")
    done = run(tmp_path, "--json", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and done.stderr == "", done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert "PyTorch cannot be loaded (libtorch.so" in found["device"]["text"]
    assert {"packages", "device", "storage", "database", "reports"} == set(found)
