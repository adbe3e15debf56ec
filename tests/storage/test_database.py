"""Engines: pragmas, errors in one sentence, retries, locks, passwords, and eight processes on one empty database."""

import signal
import sqlite3
import threading
import time
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from fork_server import ForkServer
from postgres_server import PostgresServer
from sqlalchemy.exc import OperationalError, PendingRollbackError

from hpo.errors import HpoError, UsageError
from hpo.storage import database, schema
from hpo.storage import url as storage_url
from hpo.storage.database import connect
from hpo.storage.locks import creation_lock
from hpo.storage.optuna.studies import open_storage
from hpo.storage.transactions import now, run_with_retry
from hpo.storage.url import redacted


def test_sqlite_is_opened_with_a_write_ahead_log(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL


def test_the_clock_is_the_databases(url: str) -> None:
    with connect(url).begin() as connection:
        first, second = now(connection), now(connection)
    assert abs(first - time.time()) < 5 and second > first  # within a transaction, too


def test_a_transaction_locks_before_it_reads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    first, second = connect(url), sa.create_engine(url, connect_args={"timeout": 0.05})
    with first.begin() as connection:
        connection.execute(sa.select(schema.studies.c.id))
        with pytest.raises(OperationalError, match="locked"), second.begin() as other:
            other.exec_driver_sql("DELETE FROM hpo_studies")
    second.dispose()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:s3cret@db/hpo", "postgresql://ann:***@db/hpo"),
        ("postgresql://ann@db/hpo?password=s3cret", "postgresql://ann@db/hpo"),
        ("sqlite:///hpo.db", "sqlite:///hpo.db"),
        ("postgresql://ann:s3cret@db:port/hpo", "postgresql://…"),
        ("ann:s3cret@db/hpo", "…"),
        ("postgresql://ann:p@s3cret/s3cret@db/hpo", "postgresql://…"),
        ("postgresql://ann:p@s3cret@db/hpo", "postgresql://…"),
        ("sqlite:////a@b/hpo.db", "sqlite:////a%40b/hpo.db"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("nonsense", UsageError, "no URL"),
        ("mysql://u:s3cret@h/d", UsageError, "sqlite:///"),
        ("postgresql://u:p@s3cret@h/d", UsageError, r"%40.*PGPASSWORD"),
        ("sqlite://", UsageError, "needs a file"),
        ("sqlite:////no/such/folder/t.db", HpoError, "does not exist"),
        ("postgresql://u:s3cret@127.0.0.1:1/d", HpoError, "Connection refused"),
    ],
)
def test_bad_storages_are_one_sentence(
    url: str, kind: type[HpoError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CONNECT_TIMEOUT", 0.2)
    with pytest.raises(kind, match=words) as caught:
        connect(url)
    assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "s3cret"}, "password authentication failed"),
        ({"user": "ann", "password": "s3cret"}, "password authentication failed"),
        ({"password": ""}, "no password supplied"),
        ({"database": "absent"}, "does not exist"),
    ],
)
def test_a_refusal_is_told_at_once(
    postgresql: PostgresServer, change: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CONNECT_TIMEOUT", 1000.0)  # the test would not end if it were waited for
    url = postgresql.url(**({"database": "postgres"} | change))
    with pytest.raises(HpoError, match=words) as caught:
        connect(url)
    assert postgresql.password not in str(caught.value) and "s3cret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_text("once upon a time " * 100)
    with pytest.raises(HpoError, match="not a database"):
        connect(f"sqlite:///{tmp_path}/t.db")


@pytest.mark.parametrize("version", [schema.VERSION + 1, schema.VERSION - 1])
def test_another_schema_is_refused(url: str, version: int) -> None:
    with connect(url).begin() as connection:
        connection.execute(sa.update(schema.version).values(version=version))
    with pytest.raises(HpoError, match=rf"schema {version} .* reads {schema.VERSION}"):
        connect(url)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "lustre"])
def test_sqlite_on_a_network_file_system_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share, disk = tmp_path / "my share", tmp_path / "my share" / "disk"
    disk.mkdir(parents=True)
    lines = ["rootfs / ext4", "none {share} tmpfs", f"server:/home {{share}} {kind}", "/dev/sdb {share}/disk ext4"]
    mounts = "".join(f"{line} rw 0 0\n" for line in lines).replace("{share}", str(share).replace(" ", r"\040"))
    (tmp_path / "mounts").write_text(mounts)
    monkeypatch.setattr(storage_url, "MOUNTS", tmp_path / "mounts")
    with pytest.raises(HpoError, match=rf"network file system \({kind}\).*PostgreSQL"):
        connect(f"sqlite:///{share}/t.db")
    assert not (share / "t.db").exists()
    connect(f"sqlite:///{disk}/t.db")


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    failures = [3]

    def work(connection: sa.Connection) -> int:
        failures[0] -= 1
        if failures[0] >= 0:
            raise OperationalError("", {}, sqlite3.OperationalError("database is locked"))
        return connection.scalar(sa.select(schema.version.c.version)) or 0

    assert run_with_retry(engine, work) == schema.VERSION
    failures[0] = 1000
    with pytest.raises(HpoError, match="database is locked"):
        run_with_retry(engine, work, timeout=0.2)


def test_a_session_that_stays_broken_is_one_sentence(url: str) -> None:
    def work(_: sa.Connection) -> None:
        raise PendingRollbackError("Can't reconnect until invalid transaction is rolled back.")

    with pytest.raises(HpoError, match=r"failed: Can't reconnect"):
        run_with_retry(connect(url), work, timeout=0.0)


def test_an_error_of_ours_keeps_its_traceback(url: str) -> None:
    with pytest.raises((OperationalError, sa.exc.ProgrammingError, HpoError), match="nonsense"):
        run_with_retry(connect(url), lambda connection: connection.exec_driver_sql("SELECT nonsense"))


def test_a_client_that_stopped_in_a_transaction_does_not_hold_its_locks_for_ever(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_TIMEOUT", 0.3)
    url = postgresql.create()
    stuck, other = connect(url), connect(url)
    with pytest.raises(sa.exc.DBAPIError, match="idle-in-transaction"), stuck.begin() as connection:
        connection.execute(sa.update(schema.version).values(version=7))
        with other.begin() as waiting:  # waits until the server has ended the other session
            waiting.execute(sa.update(schema.version).values(version=8))
        connection.execute(sa.select(schema.version.c.version))
    assert run_with_retry(stuck, lambda connection: connection.scalar(sa.select(schema.version.c.version))) == 8
    postgresql.drop(url)


def test_the_creation_lock_is_held_by_one_at_a_time_and_not_waited_for_without_end(url: str) -> None:
    engine = connect(url)
    inside: list[int] = []

    def enter(number: int, timeout: float = 60.0) -> None:
        with creation_lock(engine, timeout):
            inside.append(number)
            time.sleep(0.05)
            inside.append(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside[::2] == inside[1::2] and sorted(inside[::2]) == [0, 1, 2, 3]

    with creation_lock(engine, 60.0), pytest.raises((HpoError, OperationalError), match=r"locked|lock timeout"):
        enter(4, timeout=0.1)
    enter(5)


def test_a_vanished_server_is_noticed(postgresql: PostgresServer) -> None:
    """The probes themselves are the system's; here only that they are asked for."""
    with connect(postgresql.url("postgres")).connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        parameters = driver.info.get_parameters()
    assert {name: parameters[name] for name in ("keepalives_idle", "tcp_user_timeout")} == {
        "keepalives_idle": "10", "tcp_user_timeout": "30000",
    }  # fmt: skip


def create(url: str, whole: bool) -> None:
    """What a worker does at first contact, in a process of its own; `whole`: with Optuna's tables."""
    engine = connect(url)
    if whole:
        open_storage(engine).get_all_studies()


@pytest.mark.parametrize("whole", [False, False, False, True, True])
def test_eight_processes_meet_on_an_empty_database(
    url: str, whole: bool, fork_server: ForkServer, tmp_path: Path
) -> None:
    outputs = [tmp_path / f"{number}.txt" for number in range(8)]
    children = [
        fork_server.start("tests.storage.test_database:create", url, whole, output=output) for output in outputs
    ]
    assert [(child.wait(), child.text()) for child in children] == [(0, "")] * 8
    with connect(url).begin() as connection:
        assert connection.scalars(sa.select(schema.version.c.version)).all() == [schema.VERSION]
        if whole:
            assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar() == 1


def test_a_process_that_stopped_at_first_contact_keeps_nobody_out(
    url: str, fork_server: ForkServer, tmp_path: Path
) -> None:
    """It may hold the lock of creation: the others wait for it, and have what it made when it goes on."""
    first = fork_server.start("tests.storage.test_database:create", url, True, output=tmp_path / "first.txt")
    first.send_signal(signal.SIGSTOP)
    others = [
        fork_server.start("tests.storage.test_database:create", url, True, output=tmp_path / f"{number}.txt")
        for number in range(3)
    ]
    time.sleep(0.3)
    first.send_signal(signal.SIGCONT)
    assert [(child.wait(), child.text()) for child in (first, *others)] == [(0, "")] * 4
