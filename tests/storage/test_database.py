"""Connections: settings, errors in one sentence, retries, locks, passwords, and processes that start together."""

import gc
import logging
import os
import re
import signal
import sqlite3
import threading
import time
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from fork_server import ForkServer, LoggedChild
from link import Link
from pgbouncer import PgBouncer
from postgres_server import PostgresServer
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import OperationalError, PendingRollbackError
from storage_study import make

from hpo.cli.doctor.storage import check_storage
from hpo.errors import HpoError, UsageError
from hpo.storage import connections, database, schema, transactions
from hpo.storage import url as storage_url
from hpo.storage.database import connect
from hpo.storage.ledger import names
from hpo.storage.locks import creation_lock
from hpo.storage.optuna.studies import open_storage
from hpo.storage.transactions import now, run_with_retry
from hpo.storage.url import read, redacted

READ_VERSION = sa.select(schema.version.c.version)


def locked() -> OperationalError:
    return OperationalError("", {}, sqlite3.OperationalError("database is locked"))


def test_sqlite_has_a_write_ahead_log_and_locks_before_it_reads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    first, second = connect(url), sa.create_engine(url, connect_args={"timeout": 0.05})
    with first.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL
        connection.execute(sa.select(schema.studies.c.id))
        with pytest.raises(OperationalError, match="locked"), second.begin() as other:
            other.exec_driver_sql("DELETE FROM hpo_studies")
    second.dispose()


def test_the_clock_runs_within_a_transaction(url: str) -> None:
    with connect(url).begin() as connection:
        first, second = now(connection), now(connection)
    assert abs(first - time.time()) < 5 and second > first


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
        ("study.db", "…"),
        ("host=db dbname=hpo user=ann password=s3cret", "…"),
        ("postgresql://ann:12?s3cret@db/hpo", "postgresql://ann:***@db/hpo"),
        ("postgresql://ann@db/hpo?options=a@s3cret", "postgresql://…"),
        ("s3cret://ann@db:port/hpo", "…"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize("url", ["postgres://h/d", "postgresql://h/d", "postgresql+psycopg2://h/d"])
def test_postgresql_has_one_driver(url: str) -> None:
    assert read(url).drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("study.db", UsageError, r"sqlite:///study\.db"),
        ("mysql://u:s3cret@h/d", UsageError, "sqlite:///"),
        ("postgresql://u:p@s3cret@h/d", UsageError, r"%40.*PGPASSWORD"),
        ("sqlite://", UsageError, "needs a file"),
        ("sqlite:////no/such/folder/t.db", HpoError, "does not exist"),
        (f"sqlite:///{'x' * 300}", HpoError, "too long"),
        ("sqlite:////etc/passwd/t.db", HpoError, "Not a directory"),
        ("sqlite:////tmp/\0.db", HpoError, "null"),
        ("postgresql://u:s3cret@127.0.0.1:1/d", HpoError, "Connection refused"),
    ],
)
def test_unusable_storages_are_one_sentence(
    url: str, kind: type[HpoError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CONNECT_TIMEOUT", 0.2)
    with pytest.raises(kind, match=words) as caught:
        connect(url)
    assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": "ann", "password": "s3cret"}, "password authentication failed"),
        ({"password": ""}, "no password supplied"),
        ({"database": "absent"}, "does not exist"),
    ],
)
def test_a_refusal_is_not_retried(
    postgresql: PostgresServer, change: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CONNECT_TIMEOUT", 1000.0)
    url = postgresql.url(**({"database": "postgres"} | change))
    with pytest.raises(HpoError, match=words) as caught:
        connect(url)
    assert postgresql.password not in str(caught.value) and "s3cret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_text("once upon a time " * 100)
    with pytest.raises(HpoError, match="not a database"):
        connect(f"sqlite:///{tmp_path}/t.db")


@pytest.mark.parametrize("version", [schema.VERSION + 1, schema.VERSION - 1])
def test_another_schema_is_refused(tmp_path: Path, version: int) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    with connect(url).begin() as connection:
        connection.execute(sa.update(schema.version).values(version=version))
    with pytest.raises(HpoError, match=rf"schema {version} .* reads {schema.VERSION}"):
        connect(url)


# Network file systems that Linux and its FUSE programs know, and names that nobody knows.
REMOTE = (
    "nfs nfs4 cifs smb3 smbfs ceph lustre afs gpfs 9p virtiofs beegfs orangefs pvfs2 ocfs2 gfs2 coda ncpfs panfs "
    "wekafs vboxsf prl_fs fakeowner grpcfuse acfs fuse fuse.sshfs fuse.glusterfs fuse.s3fs fuse.rclone fuse.ceph "
    "fuse.gcsfuse fuse.juicefs fuse.moosefs fuse.davfs fuse.mergerfs"
)


@pytest.mark.parametrize("kind", REMOTE.split())
def test_sqlite_on_a_network_file_system_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share, disk = tmp_path / "my share", tmp_path / "my share" / "disk"
    disk.mkdir(parents=True)
    lines = ["rootfs / ext4", "none {share} tmpfs", f"server:/home {{share}} {kind}", "/dev/sdb {share}/disk ext4"]
    mounts = "".join(f"{line} rw 0 0\n" for line in lines).replace("{share}", str(share).replace(" ", r"\040"))
    (tmp_path / "mounts").write_bytes(b"none /mnt/caf\xe9 tmpfs rw 0 0\n" + mounts.encode())  # a path may be any bytes
    monkeypatch.setattr(storage_url, "MOUNTS", tmp_path / "mounts")
    with pytest.raises(HpoError, match=rf"\({re.escape(kind)}\).*network file systems.*PostgreSQL"):
        connect(f"sqlite:///{share}/t.db")
    assert not (share / "t.db").exists()
    connect(f"sqlite:///{disk}/t.db")


@pytest.mark.parametrize("below", ["", "/t.db"])
def test_a_loop_of_links_is_one_sentence(tmp_path: Path, below: str) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(HpoError, match=r"cannot be used \(.*(loop|symbolic links)"):
        connect(f"sqlite:///{tmp_path}/a{below}")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_store_every_character_is_refused(postgresql: PostgresServer, encoding: str) -> None:
    postgresql.execute(f"CREATE DATABASE {encoding} ENCODING '{encoding}' TEMPLATE template0")
    url = postgresql.url(encoding.lower())
    with pytest.raises(HpoError, match=rf"{encoding}.*'UTF8'") as caught:
        connect(url)
    assert [(check.state, check.text) for check in check_storage(url)] == [("fails", str(caught.value))]
    postgresql.drop(url)


def test_every_character_is_stored_whatever_the_clients_encoding_is(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    make(connect(url), "λ – 数")
    assert names(connect(url)) == ["λ – 数"]


def test_a_locked_database_is_retried(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    failures = [3]

    def work(connection: sa.Connection) -> int:
        failures[0] -= 1
        if failures[0] >= 0:
            raise locked()
        return connection.scalar(READ_VERSION) or 0

    assert run_with_retry(engine, work) == schema.VERSION
    failures[0] = 1000
    with pytest.raises(HpoError, match="database is locked"):
        run_with_retry(engine, work, timeout=0.2)


def test_a_long_wait_is_logged_with_its_reason_and_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    end = time.monotonic() + 3.5

    def work() -> str:
        if time.monotonic() < end:
            raise locked()
        return "done"

    monkeypatch.setattr(transactions, "WARN_AFTER", (0.5, 1.0))
    with caplog.at_level(logging.WARNING, "hpo"):
        assert transactions.retry(work, 60.0) == "done"
        assert transactions.retry(lambda: "at once", 60.0) == "at once"
        time.sleep(0.6)
    assert 2 <= len(caplog.records) <= 4
    assert all("database is locked" in record.getMessage() for record in caplog.records)


def test_a_database_that_holds_the_connection_and_is_silent_is_interrupted(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CALL_TIMEOUT", 1.0)
    url = postgresql.create()
    engine = connect(url)
    stopped: list[int] = []

    def work(connection: Connection) -> int:
        backend = connection.scalar(sa.text("select pg_backend_pid()"))
        if not stopped:
            stopped.append(backend)
            os.kill(backend, signal.SIGSTOP)
        return connection.scalar(sa.text("select 1"))

    try:
        start = time.monotonic()
        assert run_with_retry(engine, work) == 1
        assert time.monotonic() - start < 10
    finally:
        os.kill(stopped[0], signal.SIGCONT)
    engine.dispose()
    postgresql.drop(url)


def test_a_silent_connection_is_given_up_while_another_thread_of_the_process_gets_answers(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CALL_TIMEOUT", 1.0)
    monkeypatch.setattr(transactions, "WARN_AFTER", (0.1, 30.0))
    url, link = postgresql.create(), Link(postgresql.port)
    engine = connect(make_url(url).set(port=link.port).render_as_string(hide_password=False))
    over = threading.Event()

    def work_on() -> None:
        while not over.wait(0.05):
            run_with_retry(engine, lambda connection: connection.scalar(sa.text("select 1")))

    def ask() -> None:
        with pytest.raises(OperationalError, match="silent"):
            connection.scalar(sa.text("select 2"))

    with engine.connect() as connection:
        link.cut = "from"
        asked = threading.Thread(target=ask)
        asked.start()
        time.sleep(0.2)
        link.cut = ""
        other = threading.Thread(target=work_on)
        other.start()
        asked.join(6)
        ended = not asked.is_alive()
        link.reset()
        over.set()
        other.join()
        asked.join()
    assert ended
    engine.dispose()
    link.close()
    postgresql.drop(url)


def test_a_connection_that_a_thread_still_has_when_the_process_ends_causes_no_warning(
    postgresql: PostgresServer,
) -> None:
    url = postgresql.create()
    engine = connect(url)
    with engine.connect() as connection:
        pgconn = connection.connection.driver_connection.pgconn  # type: ignore[union-attr]
        engine.dispose()
    del connection
    gc.collect()
    assert pgconn.status == psycopg.pq.ConnStatus.BAD
    postgresql.drop(url)


def test_ctrl_c_ends_a_call_to_a_silent_server_at_once(postgresql: PostgresServer) -> None:
    """psycopg would ask the server to cancel the statement and wait for it, five seconds each."""
    url = postgresql.create()
    engine, ended = connect(url), threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def interrupt() -> None:
        """Once a second, as a person would: Python drops an interrupt that arrives while it frees objects."""
        while not ended.wait(1.0):
            os.kill(os.getpid(), signal.SIGINT)

    with engine.connect() as connection:
        backend = connection.scalar(sa.text("select pg_backend_pid()"))
        os.kill(backend, signal.SIGSTOP)
        threading.Thread(target=interrupt, daemon=True).start()
        start = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                connection.scalar(sa.text("select 1"))
        finally:
            ended.set()
            seconds = time.monotonic() - start
            os.kill(backend, signal.SIGCONT)  # else nobody could delete its database
            signal.signal(signal.SIGINT, before)
        assert seconds < 5
    engine.dispose()
    postgresql.drop(url)


@pytest.mark.parametrize("user", ["its connection", "a new connection", "Optuna"])
@pytest.mark.parametrize("fault", ["deleted", "replaced", "truncated", "log deleted"])
def test_a_sqlite_file_that_is_lost_while_it_is_open_is_noticed(tmp_path: Path, fault: str, user: str) -> None:
    path = tmp_path / "t.db"
    engine = connect(f"sqlite:///{path}")
    assert run_with_retry(engine, lambda connection: connection.scalar(READ_VERSION)) == schema.VERSION
    if fault == "replaced":
        (tmp_path / "copy").write_bytes(path.read_bytes())
        (tmp_path / "copy").replace(path)
    elif fault == "truncated":
        run_with_retry(engine, lambda connection: connection.execute(sa.update(schema.version).values(version=3)))
        path.write_bytes(b"")
    else:
        (path if fault == "deleted" else tmp_path / "t.db-wal").unlink()
    in_use = engine.pool.connect() if user == "a new connection" else None  # the pool has no other
    with pytest.raises(HpoError, match=fault.split()[-1]):
        if user == "Optuna":
            open_storage(engine)
        else:
            run_with_retry(engine, lambda connection: connection.scalar(READ_VERSION))
    if in_use:
        in_use.close()
    assert path.exists() == (fault != "deleted")


def test_a_log_that_another_process_deletes_while_this_one_connects_is_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    engine = connect(f"sqlite:///{path}")
    engine.dispose()
    other = sqlite3.connect(path)
    other.execute("SELECT * FROM hpo_schema").fetchall()
    log = tmp_path / "t.db-wal"
    before = log.stat().st_ino

    def close_other(*_: object) -> None:
        other.close()
        if not log.exists():  # the last connection of all
            (tmp_path / "a file in the place of the log").write_text("")

    sa.event.listen(engine, "do_connect", close_other)  # after the check, before SQLite opens the file
    assert run_with_retry(engine, lambda connection: connection.scalar(READ_VERSION)) == schema.VERSION
    assert log.stat().st_ino != before
    log.unlink()
    with pytest.raises(HpoError, match="deleted"):
        run_with_retry(engine, lambda connection: connection.scalar(READ_VERSION))


def test_a_file_may_be_another_one_after_a_connection_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "RETRY_TIMEOUT", 0.2)
    path = tmp_path / "t.db"
    engine = connect(f"sqlite:///{path}")
    engine.dispose()

    def replace_file() -> None:
        (tmp_path / "copy").write_bytes(path.read_bytes())
        (tmp_path / "copy").replace(path)

    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode=DELETE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(HpoError, match="locked"):  # while the connection is configured
        run_with_retry(engine, lambda connection: connection.scalar(READ_VERSION))
    other.close()
    for _ in range(2):
        replace_file()
        assert run_with_retry(engine, lambda connection: connection.scalar(READ_VERSION)) == schema.VERSION
        engine.dispose()


def test_a_session_that_stays_broken_is_one_sentence(url: str) -> None:
    def work(_: sa.Connection) -> None:
        raise PendingRollbackError("Can't reconnect until invalid transaction is rolled back.")

    with pytest.raises(HpoError, match=r"failed: Can't reconnect"):
        run_with_retry(connect(url), work, timeout=0.0)


def test_a_defect_of_hpo_keeps_its_traceback(url: str) -> None:
    with pytest.raises((OperationalError, sa.exc.ProgrammingError, HpoError), match="nonsense"):
        run_with_retry(connect(url), lambda connection: connection.exec_driver_sql("SELECT nonsense"))


def test_a_client_that_stopped_in_a_transaction_loses_its_locks(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.LIMITS, "idle_in_transaction_session_timeout", 0.3)
    url = postgresql.create()
    stopped, other = connect(url), connect(url)
    with pytest.raises(sa.exc.DBAPIError, match="idle-in-transaction"), stopped.begin() as connection:
        connection.execute(sa.update(schema.version).values(version=7))
        with other.begin() as waiting:  # waits until the server has ended the other session
            waiting.execute(sa.update(schema.version).values(version=8))
        connection.execute(READ_VERSION)
    assert run_with_retry(stopped, lambda connection: connection.scalar(READ_VERSION)) == 8
    postgresql.drop(url)


def test_the_creation_lock_has_one_holder_and_a_timeout(url: str) -> None:
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


def test_the_end_of_a_session_that_holds_the_creation_lock_is_no_error(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.LIMITS, "idle_in_transaction_session_timeout", 0.2)
    url = postgresql.create()
    engine = connect(url)
    with creation_lock(engine):
        time.sleep(1.0)
        with creation_lock(engine, 10.0):
            pass
    engine.dispose()
    postgresql.drop(url)


PROBES = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")


def probes(engine: sa.Engine) -> list[str]:
    """What PostgreSQL reads from the socket of a session, in the order of PROBES."""
    return run_with_retry(engine, lambda connection: [connection.scalar(sa.text(f"SHOW {name}")) for name in PROBES])


def test_client_and_server_probe_whether_the_other_is_alive(postgresql: PostgresServer) -> None:
    engine = connect(postgresql.url("postgres"))
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        parameters = driver.info.get_parameters()
    assert (parameters["keepalives_idle"], parameters["tcp_user_timeout"]) == ("10", "15000")
    assert probes(engine) == ["60", "10", "5", "60000"]
    assert probes(open_storage(engine).engine) == ["60", "10", "5", "60000"]


def test_sessions_of_a_pooler_keep_their_settings(postgresql: PostgresServer) -> None:
    pooler = PgBouncer(postgresql, size=3)
    try:
        assert probes(connect(pooler.url(postgresql.create())))[3] == "0"
    finally:
        pooler.close()


def create(url: str, with_optuna: bool) -> None:
    """What a worker does when it starts, in its own process."""
    engine = connect(url, transactions.RETRY_TIMEOUT)
    if with_optuna:
        open_storage(engine).get_all_studies()


def ended(child: LoggedChild) -> tuple[int, list[str]]:
    """Its exit code, and what it wrote except that it waits, which depends on how fast the machine is."""
    return child.wait(120), [line for line in child.text().splitlines() if "the database has not answered" not in line]


@pytest.mark.parametrize("with_optuna", [False, False, True, True])
def test_eight_processes_start_on_an_empty_database(
    url: str, with_optuna: bool, fork_server: ForkServer, tmp_path: Path
) -> None:
    function = f"{__name__}:create"
    outputs = [tmp_path / f"{number}.txt" for number in range(8)]
    children = [fork_server.start(function, url, with_optuna, output=output) for output in outputs]
    assert [ended(child) for child in children] == [(0, [])] * 8
    with connect(url).begin() as connection:
        assert connection.scalars(READ_VERSION).all() == [schema.VERSION]
        if with_optuna:
            assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar() == 1


def test_a_process_that_is_stopped_while_it_creates_tables_delays_the_others(
    url: str, fork_server: ForkServer, tmp_path: Path
) -> None:
    """It may hold the creation lock: the others wait, and use the tables that it has created when it continues."""
    function = f"{__name__}:create"
    first = fork_server.start(function, url, True, output=tmp_path / "first.txt")
    first.send_signal(signal.SIGSTOP)
    others = [fork_server.start(function, url, True, output=tmp_path / f"{number}.txt") for number in range(3)]
    time.sleep(0.3)
    first.send_signal(signal.SIGCONT)
    assert [ended(child) for child in (first, *others)] == [(0, [])] * 4
