"""Databases that cannot be written are shown and reported, and nothing in them changes."""

import re
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shown_study
from command_line import CommandLine
from fork_server import ROOT, Child, ForkServer
from postgres_server import PostgresServer, Standby

from hpo import housekeeping
from hpo.errors import UsageError
from hpo.storage import curves
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, load_study, new_worker_id
from hpo.storage.optuna.mirror import Mirror

Start = Callable[..., Child]


def fill(url: str, study: str = "shown") -> None:
    engine = connect(url)
    ledger = shown_study.make(engine, study)
    shown_study.finish(ledger)
    Mirror(ledger).repair()
    engine.dispose()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file, which needs no log."""
    path = tmp_path_factory.mktemp("original") / "t.db"
    fill(f"sqlite:///{path}")
    return path


def check_commands(start: Start, folder: Path) -> None:
    """Each command shows the study; `hpo worker` and editing are refused in a sentence."""

    def run(*words: str, code: int = 0) -> str:
        child = start(*words)
        assert child.wait(120) == code, child.text()
        return child.text()

    assert "shown: finished" in run("status", "--watch", "0.2", "shown")
    assert f"report: {folder}/reports/shown/README.md" in run("report", "shown", "--reports", f"{folder}/reports")
    assert (folder / "reports" / "shown" / "report.html").stat().st_size > 10_000
    assert "regularizers" in run("list")
    for words in (("delete", "shown", "--yes"), ("rename", "shown", "other"), ("merge", "shown", "other")):
        refused = run(*words, code=1)
        assert refused.count("\n") == 1 and "cannot be written here" in refused
    refused = run("dashboard", "--port", "0", "--allow-edit", code=2)
    assert refused.count("\n") == 1 and "cannot be written here; leave out --allow-edit" in refused

    dashboard = start("dashboard", "--port", "0")
    end = time.monotonic() + 60
    while not (link := re.search(r"(http://\S+)", dashboard.text())):
        assert dashboard.poll() is None and time.monotonic() < end, dashboard.text()
        time.sleep(0.05)
    for page, words in (("reports/", "shown"), ("api/studies", "shown/GNVR/tune"), ("reports/shown/", "GNVR")):
        with urllib.request.urlopen(f"{link[1]}{page}", timeout=60) as response:
            assert words in response.read().decode()
    dashboard.send_signal(signal.SIGTERM)
    assert dashboard.wait() == 128 + signal.SIGTERM and dashboard.text().count("\n") == 1, dashboard.text()


@pytest.mark.skipif(sys.platform != "linux", reason="the superuser may write anywhere")
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_sqlite_file_that_cannot_be_written(
    kind: str, original: Path, tmp_path: Path, fork_server: ForkServer
) -> None:
    folder = tmp_path / "fixed"
    folder.mkdir()
    path = folder / "t.db"
    shutil.copy(original, path)
    path.chmod(0o400)
    folder.chmod(0o500 if kind == "folder" else 0o700)
    before = path.read_bytes(), path.stat().st_mtime_ns, folder.stat().st_mtime_ns
    environment = {"HPO_STORAGE": f"sqlite:///{path}", "PYTHONPATH": str(ROOT)}
    numbers = iter(range(100))

    def start(*words: str) -> Child:
        output = tmp_path / f"{next(numbers)}.txt"
        return fork_server.start("unprivileged:run", *words, output=output, environment=environment, folder=tmp_path)

    check_commands(start, tmp_path)
    assert (path.read_bytes(), path.stat().st_mtime_ns, folder.stat().st_mtime_ns) == before
    folder.chmod(0o700)


@pytest.mark.skipif(sys.platform != "linux", reason="the superuser may write anywhere")
def test_a_sqlite_file_that_only_another_user_may_write(
    original: Path, tmp_path: Path, fork_server: ForkServer
) -> None:
    """What the other user stored a moment ago is in the log only."""
    folder = tmp_path / "fixed"
    folder.mkdir()
    shutil.copy(original, folder / "t.db")
    url = f"sqlite:///{folder}/t.db"
    writer = connect(url)
    shown_study.make(writer, "late")
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o500)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    environment = {"HPO_STORAGE": url, "PYTHONPATH": str(ROOT)}
    child = fork_server.start("unprivileged:run", "status", output=tmp_path / "said.txt", environment=environment)
    assert child.wait(120) == 0 and "late: " in child.text() and "shown: finished" in child.text(), child.text()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before and len(before) == 3
    folder.chmod(0o700)
    writer.dispose()


@pytest.mark.skipif(sys.platform != "linux", reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written(original: Path, tmp_path: Path, fork_server: ForkServer) -> None:
    folder = tmp_path / "fixed"
    (folder / "studies").mkdir(parents=True)
    (folder / "studies" / "gnvr.py").write_text((ROOT / "studies" / "gnvr.py").read_text())
    shutil.copy(original, tmp_path / "t.db")
    environment = {"HPO_STORAGE": f"sqlite:///{tmp_path}/t.db", "PYTHONPATH": str(ROOT), "HPO_CACHE": str(tmp_path)}
    folder.chmod(0o500)
    commands = (
        ("report", "shown"), ("report", "shown", "--compare"), ("export", "shown"), ("run", "gnvr"),
        ("export", "shown", "--format", "study"), ("launch", "gnvr", "--workers", "1"),
    )  # fmt: skip
    for number, words in enumerate(commands):
        output = tmp_path / f"{number}.txt"
        child = fork_server.start("unprivileged:run", *words, output=output, environment=environment, folder=folder)
        assert child.wait(120) in (1, 2), child.text()
        assert child.text().count("\n") == 1 and "cannot be written (Permission denied)" in child.text(), child.text()
    assert [path.name for path in folder.iterdir()] == ["studies"]
    folder.chmod(0o700)


@pytest.fixture(scope="module")
def filled(postgresql: PostgresServer) -> Iterator[str]:
    url = postgresql.create()
    fill(url)
    yield url
    postgresql.drop(url)


@pytest.fixture(scope="module")
def reader(filled: str, postgresql: PostgresServer) -> str:
    """The URL for a role that may only select."""
    import psycopg

    postgresql.execute("CREATE ROLE reader LOGIN PASSWORD 'reading'")
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    return postgresql.url(filled.rpartition("/")[2], "reader", "reading")


@pytest.fixture(scope="module")
def standby(filled: str, postgresql: PostgresServer) -> Iterator[str]:
    server = Standby(postgresql)
    yield server.url(filled.rpartition("/")[2])
    server.close()


@pytest.mark.parametrize("kind", ["reader", "standby"])
def test_a_postgresql_database_that_cannot_be_written(
    kind: str, tmp_path: Path, fork_server: ForkServer, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(kind)
    hpo = CommandLine(fork_server, tmp_path / "work", HPO_STORAGE=url)
    check_commands(hpo.start, tmp_path)
    hpo.write_study("mine", (ROOT / "studies" / "gnvr.py").read_text())
    said = hpo.run("worker", "mine", code=1)
    assert said.count("\n") == 1 and re.search("permission denied|read-only transaction|during recovery", said), said


@pytest.mark.parametrize("kind", ["reader", "standby"])
def test_a_study_is_copied_out_of_a_database_that_cannot_be_written(
    kind: str, filled: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As the error of the other commands recommends."""
    url, target = request.getfixturevalue(kind), f"sqlite:///{tmp_path}/t.db"
    housekeeping.copy(url, "shown", target)
    housekeeping.export_file(url, "shown", tmp_path / "shown.hpo")
    housekeeping.import_file(tmp_path / "shown.hpo", target, "imported")
    original = load_study(connect(filled), "shown")
    lost = ("id", "trial", "worker_id")  # the ids are those of another database

    def slots(ledger: Ledger) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if key not in lost} for row in ledger.export()["slots"]]

    for name in ("shown", "imported"):
        assert slots(load_study(connect(target), name)) == slots(original)
        assert len(curves.read(connect(target), name)["value"]) == len(curves.read(original.engine, "shown")["value"])
    assert housekeeping.merge(target, "imported", "shown", url) == []


def test_a_study_in_training_is_not_copied_out_of_a_database_that_cannot_be_written(
    filled: str, reader: str, tmp_path: Path
) -> None:
    ledger, worker = shown_study.make(connect(filled), "leased"), new_worker_id()
    assert ledger.lease(worker, 1) is not None
    with pytest.raises(UsageError, match=f"process {worker.split(':')[1]} on "):
        housekeeping.copy(reader, "leased", f"sqlite:///{tmp_path}/t.db")
    ledger.release(worker)
    assert housekeeping.copy(reader, "leased", f"sqlite:///{tmp_path}/t.db").state() == "work"
    ledger.delete()
