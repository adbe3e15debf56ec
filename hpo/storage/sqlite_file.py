"""A SQLite file that is deleted, replaced or truncated while it is open, and one that must not be written.

SQLite itself continues with a file that was lost, and loses everything.
"""

import sqlite3
from pathlib import Path
from urllib.parse import quote
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import Engine

from hpo.errors import HpoError
from hpo.storage.url import file

_files: "WeakKeyDictionary[Engine, OpenFile]" = WeakKeyDictionary()


class OpenFile:
    """The file that an engine's connections have opened, and its log; once all are closed, it may be another one."""

    def __init__(self, path: Path) -> None:
        self.path, self.log = path, path.with_name(f"{path.name}-wal")
        self.connections, self.size = 0, 0
        self._identities: dict[Path, tuple[int, int]] = {}

    def check(self) -> None:
        """Raises HpoError if the file or its log is not the one that was opened first, or the file is shorter.

        The file is not opened here: closing it would drop the locks that SQLite holds on it in this process.
        """
        if not self.connections:
            self._forget()
        # Until this process holds the database, another one deletes the log when it closes the last connection.
        for path in (self.path, self.log) if self.connections else (self.path,):
            try:
                status = path.stat()
            except FileNotFoundError:
                if path in self._identities:
                    raise _error(path, "deleted") from None
                continue
            identity = (status.st_dev, status.st_ino)
            if self._identities.setdefault(path, identity) != identity:
                raise _error(path, "replaced")
            if path == self.path:
                if status.st_size < self.size:  # SQLite shortens a file at a VACUUM only
                    raise _error(path, "truncated")
                self.size = status.st_size

    def connect(self, *_: object) -> None:
        self.connections += 1

    def disconnect(self, *_: object) -> None:
        self.connections -= 1
        if not self.connections:
            self._forget()

    def _forget(self) -> None:
        self._identities.clear()
        self.size = 0


def open_file(engine: Engine, opened_by: Engine | None = None) -> OpenFile:
    """The file of an engine, whose connections are counted from now on; that of `opened_by` where both use the same."""
    known = _files.get(opened_by or engine) or OpenFile(file(engine.url))
    if engine not in _files:
        _files[engine] = known
        event.listen(engine, "connect", known.connect)
        event.listen(engine, "close", known.disconnect)
    return known


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that creates no file next to `path`."""
    log = path.with_name(f"{path.name}-wal")
    # A database without a log is complete, and SQLite could not create one; with a log, a writer has prepared all.
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    return sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, check_same_thread=False)


def _error(path: Path, what: str) -> HpoError:
    return HpoError(
        f"{path} was {what} while it was in use, so nothing can be stored in it; restore it, or delete what is left "
        "of the database and start the study again"
    )
