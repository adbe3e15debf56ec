"""Databases of both kinds that a test can make unavailable for a while."""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from postgres_server import PostgresServer

KINDS = ("sqlite", "postgresql")
Waiting = Callable[[], None]


def pause() -> None:
    time.sleep(0.01)


class Storage(Protocol):
    """Creates and removes databases of one kind."""

    def create(self) -> str:
        """The URL of a new, empty database."""

    def drop(self, url: str) -> None:
        """Removes it."""

    def unavailable(self, url: str, variant: int = 0, waiting: Waiting = pause) -> AbstractContextManager[None]:
        """Nobody can write into the database inside; `waiting` is called while somebody cannot be made to stop."""

    def close(self) -> None:
        """Removes everything."""


class SqliteStorage:
    """Files in one temporary folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hpo-sqlite-"))

    def create(self) -> str:
        return f"sqlite:///{tempfile.mkdtemp(dir=self.folder)}/t.db"

    def drop(self, url: str) -> None:
        shutil.rmtree(sqlite_file(url).parent)

    @contextmanager
    def unavailable(self, url: str, variant: int = 0, waiting: Waiting = pause) -> Iterator[None]:  # noqa: ARG002
        """Another process, this one, holds the file's lock."""
        connection = sqlite3.connect(sqlite_file(url), timeout=0, isolation_level=None)
        try:
            while not _begins(connection):
                waiting()
            yield
        finally:
            connection.close()

    def close(self) -> None:
        shutil.rmtree(self.folder)


class PostgresStorage(PostgresServer):
    """A server that may be stopped."""

    @contextmanager
    def unavailable(self, url: str, variant: int = 0, waiting: Waiting = pause) -> Iterator[None]:  # noqa: ARG002
        """The server ends all sessions, in order or as in a crash, and comes back with all it had."""
        self.stop("immediate" if variant % 2 else "fast")
        yield
        self.start()


def _begins(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False
    return True


def sqlite_file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))
