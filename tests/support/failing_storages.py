"""The ways in which a database fails while it is in use; each is a context manager, and everything is well after it."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
from link import Link
from pgbouncer import PgBouncer
from sqlalchemy.engine import make_url
from storages import PostgresStorage, SqliteStorage, Waiting, pause, sqlite_file

LOCKED = ("hpo_slots", "hpo_studies", "hpo_workers", "hpo_curves", "trials", "studies")  # tables, two of them Optuna's


class FailingSqlite(SqliteStorage):
    """SQLite files that are locked, read for long, or damaged.

    Attributes:
        faults: the names of these context managers. Each takes the URL, a number that chooses among its variants, and a
            function to call while it waits for others.
    """

    faults = ("unavailable", "read", "damaged")

    @contextmanager
    def read(self, url: str, _variant: int, waiting: Waiting = pause) -> Iterator[None]:  # noqa: ARG002
        """A reader keeps an old state of the file in use, so that SQLite cannot shorten its log."""
        with closing(sqlite3.connect(sqlite_file(url), isolation_level=None)) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            yield

    @contextmanager
    def damaged(self, url: str, variant: int, waiting: Waiting = pause) -> Iterator[None]:
        """The file is deleted, replaced or truncated, or its log is deleted; afterwards it is as it was before."""
        file = sqlite_file(url)
        kept, log = file.with_suffix(".kept"), Path(f"{file}-wal")
        with self.unavailable(url, variant, waiting), closing(sqlite3.connect(file)) as source:
            with closing(sqlite3.connect(kept)) as target:
                source.backup(target)
            match variant % 4:
                case 0:
                    file.unlink()
                case 1:
                    shutil.copy(kept, file.with_suffix(".new"))
                    file.with_suffix(".new").rename(file)
                case 2:
                    os.truncate(file, 0)
                case 3:
                    log.unlink()
        yield
        for part in file.parent.glob(f"{file.name}*"):
            part.unlink()
        kept.rename(file)


class FailingPostgres:
    """A server behind a network link and, if `pooled`, behind pgbouncer, that all may fail.

    Attributes:
        faults: see `FailingSqlite`.
    """

    faults = ("unavailable", "frozen", "locked", "ended", "cut", "reset", "slow")

    def __init__(self, server: PostgresStorage, pooled: bool = False) -> None:
        self.server = server
        self.pooler = PgBouncer(server, size=3) if pooled else None
        self.link = Link(self.pooler.port if self.pooler else server.port)

    def create(self) -> str:
        """The URL of a new database, through the link."""
        return make_url(self.server.create()).set(port=self.link.port).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        self.server.drop(url)

    def close(self) -> None:
        self.link.close()
        if self.pooler:
            self.pooler.close()

    @contextmanager
    def unavailable(self, url: str, variant: int = 0, waiting: Waiting = pause) -> Iterator[None]:
        """The server is stopped, in order or as by a crash."""
        with self.server.unavailable(url, variant, waiting):
            yield

    @contextmanager
    def frozen(self, _url: str, variant: int, _waiting: Waiting) -> Iterator[None]:
        """The server keeps its connections and is silent; in every second variant it still accepts new ones."""
        pids = self.server.processes()[variant % 2 :]
        _send(pids, signal.SIGSTOP)
        yield
        _send(pids, signal.SIGCONT)

    @contextmanager
    def locked(self, url: str, variant: int, _waiting: Waiting) -> Iterator[None]:
        """Another session keeps one of the tables locked."""
        with self._connect(url) as connection:
            with suppress(psycopg.Error):  # somebody else keeps it locked
                connection.execute(f"SET lock_timeout = 2000; LOCK TABLE {LOCKED[variant % len(LOCKED)]}")
            yield

    @contextmanager
    def ended(self, url: str, _variant: int, _waiting: Waiting) -> Iterator[None]:
        """Somebody ends all sessions."""
        with self._connect(url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        yield

    @contextmanager
    def cut(self, _url: str, variant: int, _waiting: Waiting) -> Iterator[None]:
        """What is sent is lost, both ways or one way; afterwards the link is well and its old connections are not."""
        self.link.cut = ("both", "to", "from")[variant % 3]
        yield
        self.link.cut = ""

    @contextmanager
    def reset(self, _url: str, _variant: int, _waiting: Waiting) -> Iterator[None]:
        """All connections are reset, at the beginning and at the end."""
        self.link.reset()
        yield
        self.link.reset()

    @contextmanager
    def slow(self, _url: str, _variant: int, _waiting: Waiting) -> Iterator[None]:
        self.link.slow = True
        yield
        self.link.slow = False

    @contextmanager
    def pooler_restarted(self, _url: str, _variant: int, _waiting: Waiting) -> Iterator[None]:
        assert self.pooler
        self.pooler.stop()
        yield
        self.pooler.start()

    def _connect(self, url: str) -> "psycopg.Connection[tuple[object, ...]]":
        """Directly to the server."""
        return psycopg.connect(self.server.url(url.rpartition("/")[2]))


KINDS: dict[str, Sequence[str]] = {  # of databases → their faults
    "sqlite": FailingSqlite.faults,
    "postgresql": FailingPostgres.faults,
    "pgbouncer": (*FailingPostgres.faults, "pooler_restarted"),
}


def failing_storage(kind: str, server: Callable[[], PostgresStorage]) -> FailingSqlite | FailingPostgres:
    """`server`: returns the server where one is needed."""
    return FailingSqlite() if kind == "sqlite" else FailingPostgres(server(), pooled=kind == "pgbouncer")


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
