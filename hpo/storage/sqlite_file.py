"""A SQLite file that is deleted, replaced or truncated while it is open, and one that must not be written.

SQLite itself continues with a file that was lost, and loses everything.
"""

import sqlite3
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import Connection

from hpo.errors import HpoError


def check_file(connection: Connection, path: Path) -> None:
    """Raises HpoError if the file, or its log, is not the one that this connection has opened, or is shorter.

    The file is not opened here: closing it would drop the locks that SQLite holds on it in this process.

    Args:
        connection: its `info` keeps which files these are.
    """
    for file, name in ((path, "file"), (path.with_name(f"{path.name}-wal"), "log")):
        try:
            status = file.stat()
        except FileNotFoundError:
            status = None
        identity = status and (status.st_dev, status.st_ino)
        known = connection.info.setdefault(name, identity) or identity
        connection.info[name] = known
        if identity != known:
            raise _error(file, "deleted" if identity is None else "replaced")
        if status and file == path:
            if status.st_size < connection.info.get("size", 0):  # SQLite shortens a file at a VACUUM only
                raise _error(path, "truncated")
            connection.info["size"] = status.st_size


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that creates no file next to `path`."""
    log = path.with_name(f"{path.name}-wal")
    # A database without a log is complete, and SQLite could not create one; with a log, a writer has prepared all.
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    return sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, check_same_thread=False)


def _error(file: Path, what: str) -> HpoError:
    return HpoError(
        f"{file} was {what} while it was in use, so nothing can be stored in it; restore it, or delete what is left "
        "of the database and start the study again"
    )
