"""`hpo doctor`: every problem is found and is one sentence, and nothing is changed."""

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

from hpo.cli.doctor import Check, as_text, check_all, device, folders, packages, storage
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
    make(engine := connect(url))
    engine.dispose()
    return url


@pytest.fixture
def server_url(postgresql: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database with one study."""
    url = postgresql.create()
    make(engine := connect(url))
    engine.dispose()
    yield url
    postgresql.drop(url)


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def assert_one(checks: list[Check], state: str, words: str) -> None:
    """Asserts that there is one result, with this state and these words in one sentence."""
    assert len(checks) == 1 and checks[0].state == state, checks
    assert words in checks[0].text and "\n" not in checks[0].text, checks


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_good_file_is_unchanged(file_url: str, tmp_path: Path) -> None:
    before = contents(tmp_path)
    assert_one(check_storage(file_url), "ok", f"schema {schema.VERSION} with 1 study")
    assert contents(tmp_path) == before


def test_a_missing_file_is_not_created(tmp_path: Path) -> None:
    assert_one(check_storage(f"sqlite:///{tmp_path}/t.db"), "ok", "will be created")
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_tables_is_unchanged(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = contents(tmp_path)
    assert_one(check_storage(f"sqlite:///{tmp_path}/t.db"), "ok", "without hpo's tables")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "is not a URL"),
        ("mysql://u:s3cret@h/d", "sqlite:///"),
        ("sqlite://", "needs a file"),
        ("sqlite:////no/such/folder/t.db", "/no/such/folder"),
        ("sqlite:////proc/t.db", "not known as local (proc)"),
        ("postgresql://u:s3cret@127.0.0.1:1/d", "cannot be used"),
        ("postgresql://u:s3cret@no-such-host.invalid/d", "cannot be used"),
        ("postgresql://u:s3cret@h:port/d", "URL"),
        ("postgresql://u@127.0.0.1:1/d?password=s3cret", "cannot be used"),
        ("postgresql://u:s3cret@127.0.0.1:1/d?nonsense=1", "nonsense"),
    ],
)
def test_an_unusable_storage(url: str, words: str, tmp_path: Path) -> None:
    checks = check_all(url, "cpu", tmp_path)
    assert_one([check for check in checks if check.name == "storage"], "fails", words)
    assert "s3cret" not in as_text(checks)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_text("once upon a time " * 100)
    assert_one(check_storage(f"sqlite:///{tmp_path}/t.db"), "fails", "not a database")


def test_a_network_file_system(file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_url, "file_system", lambda _: "nfs4")
    assert_one(check_storage(file_url), "fails", "(nfs4)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(file_url: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert_one(check_storage(file_url), "fails", str(tmp_path))
    assert check_folder("reports", tmp_path / "reports", "use another").state == "fails"


def test_a_newer_schema(file_url: str, server_url: str) -> None:
    for url in (file_url, server_url):
        engine = connect(url)
        with engine.begin() as connection:
            connection.execute(sa.update(schema.version).values(version=99))
        engine.dispose()
        assert_one(check_storage(url), "fails", "schema 99")


def test_a_file_that_another_program_has_locked(file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LOCK_TIMEOUT", 0.1)
    holder = sqlite3.connect(file_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert_one(check_storage(file_url), "warning", "locked")
    holder.execute("ROLLBACK")
    holder.close()
    assert_one(check_storage(file_url), "ok", "writable")


def test_a_good_server_is_unchanged(server_url: str) -> None:
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
    assert_one(check_storage(postgresql.url("postgres", password="wr0ng")), "fails", "password authentication failed")
    checks = check_storage(postgresql.url("nowhere"))
    assert_one(checks, "fails", 'database "nowhere" does not exist')
    assert postgresql.password not in as_text(checks)


def test_a_user_who_may_not_create_tables(server_url: str, postgresql: PostgresServer) -> None:
    postgresql.execute("CREATE ROLE doctor_reader LOGIN PASSWORD 's3cret'", "GRANT pg_read_all_data TO doctor_reader")
    try:
        checks = check_storage(postgresql.url(server_url.rpartition("/")[2], "doctor_reader", "s3cret"))
    finally:
        postgresql.execute("DROP ROLE doctor_reader")
    assert states(checks)["tables"] == "fails" and states(checks)["storage"] == "ok"
    assert "grant CREATE" in as_text(checks) and "s3cret" not in as_text(checks)


@pytest.mark.parametrize(("limit", "state"), [(2, "fails"), (12, "warning"), (50, "ok")])
def test_few_free_connections(server_url: str, postgresql: PostgresServer, limit: int, state: str) -> None:
    postgresql.execute(f"ALTER DATABASE {server_url.rpartition('/')[2]} CONNECTION LIMIT {limit}")
    check = next(check for check in check_storage(server_url) if check.name == "connections")
    free, total = map(int, check.text.split(" connections")[0].split(" of "))
    assert check.state == state and free == limit - 1 and total == 197  # 200, and 3 are reserved


def test_a_slow_old_server_with_another_clock(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = storage.now
    monkeypatch.setattr(storage, "MAX_ROUND_TRIP", 0.0)
    monkeypatch.setattr(storage, "OLDEST_TESTED", (99,))
    monkeypatch.setattr(storage, "now", lambda connection: real(connection) + 60)
    checks = {check.name: check for check in check_storage(server_url)}
    assert {name for name, check in checks.items() if check.state == "warning"} == {"server", "round trip", "clock"}
    assert checks["clock"].text.startswith(("60.0 s behind", "59.9 s behind"))


@pytest.mark.parametrize(("free", "state"), [(10**7, "fails"), (5 * 10**8, "warning"), (10**12, "ok")])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: USED._replace(free=free))
    monkeypatch.setenv("HPO_CHECKPOINTS", str(tmp_path))
    checks = check_folders(f"sqlite:///{tmp_path}/t.db", tmp_path / "reports")
    assert states(checks) == dict.fromkeys(("database", "reports", "data sets", "checkpoints"), state)


def test_unwritable_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for name in ("HPO_DATA", "HPO_CHECKPOINTS"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    checks = check_folders(f"sqlite:///{tmp_path}/t.db", Path("/proc/reports"))
    assert states(checks) == {"database": "ok", "reports": "fails", "data sets": "fails", "checkpoints": "fails"}
    for check, words in zip(checks[1:], ("--reports", "HPO_DATA", "HPO_CHECKPOINTS"), strict=True):
        assert words in check.text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_checkpoints_that_other_machines_cannot_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_CHECKPOINTS", str(tmp_path))
    for kind, url, state in (
        ("ext4", "postgresql://u@h/d", "warning"),
        ("nfs4", "postgresql://u@h/d", "ok"),
        ("ext4", f"sqlite:///{tmp_path}/t.db", "ok"),
    ):
        monkeypatch.setattr(folders, "file_system", lambda _, kind=kind: kind)
        assert states(check_folders(url, tmp_path))["checkpoints"] == state


def test_a_device_that_computes_wrongly_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access\nmany\nlines")

    assert_one(check_device("cpu"), "ok", "works")
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda *_: torch.zeros(1, requires_grad=True).expand(64, 64))
    assert_one(check_device("cpu"), "fails", "wrong product")
    monkeypatch.setattr(torch, "ones", broken)
    assert_one(check_device("cpu"), "fails", "(CUDA error: an illegal memory access)")


def test_a_device_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(device, "_has_gpu", lambda: False)
    assert_one(check_device("tpu"), "fails", "'tpu'")
    assert_one(check_device("cuda"), "fails", "0 CUDA devices")
    assert states(check_device("auto")) == {"device": "ok"}

    monkeypatch.setattr(device, "_has_gpu", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert_one(check_device("cuda"), "fails", "built without CUDA")
    assert_one(check_device("auto")[1:], "warning", "built without CUDA")
    assert len(check_device("cpu")) == 1, "with --device cpu a GPU does not matter"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert_one(check_device("auto")[1:], "warning", "CUDA_VISIBLE_DEVICES")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_every_gpu_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.state for check in check_device("auto")] == ["ok"] * torch.cuda.device_count()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**7, 10**9))
    assert_one(check_device("cuda:0"), "warning", "10 MB of free memory")


def test_packages_of_other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one(check_packages(), "ok", "torch")
    real = packages.version

    def missing(name: str) -> str:
        if name == "waitress":
            raise packages.PackageNotFoundError
        return real(name)

    monkeypatch.setattr(packages, "version", lambda name: "1.0" if name == "torch" else real(name))
    assert_one(check_packages(), "fails", "pip install 'torch>=")
    monkeypatch.setattr(packages, "version", missing)
    assert_one(check_packages(), "fails", "pip install 'waitress>=")
    monkeypatch.setattr(packages, "version", real)
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.9.1")
    assert_one(check_packages(), "fails", "python 3.9.1")
    monkeypatch.setattr(packages, "requires", lambda _: missing("waitress"))
    assert_one(check_packages(), "warning", "not installed")


def test_an_unexpected_error_hides_no_result_and_shows_no_secret() -> None:
    def check() -> list[Check]:
        raise KeyError("s3cret")

    assert_one(list(guarded("x", check)), "fails", "KeyError")
    assert "s3cret" not in str(guarded("x", check))


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HPO_")} | variables
    command = [sys.executable, "-m", "hpo", "doctor", "--device", "cpu", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_the_command_prints_one_line_per_check(tmp_path: Path) -> None:
    done = run(tmp_path, HPO_CACHE=str(tmp_path))
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 6
    assert list(tmp_path.iterdir()) == []


def test_the_command_works_without_pytorch_and_database(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: cannot open shared object file')")
    secret = {"HPO_STORAGE": "postgresql://u:s3cret@127.0.0.1:1/d", "PGPASSWORD": "s3cret"}
    done = run(tmp_path, "--json", PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]), **secret)
    assert done.returncode == 1 and done.stderr == "", done.stderr
    assert "s3cret" not in done.stdout
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert "(libtorch.so" in checks["device"]["text"]
    assert checks["storage"]["state"] == "fails" and "postgresql://u:***@" in checks["storage"]["text"]
    assert set(checks) == {"packages", "device", "storage", "reports"}
