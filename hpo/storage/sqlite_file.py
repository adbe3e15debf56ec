"""A SQLite file that is deleted, replaced or truncated while it is open: SQLite itself goes on and loses everything."""

from pathlib import Path

from sqlalchemy.engine import Connection

from hpo.errors import HpoError


def check_file(connection: Connection, path: Path) -> None:
    """Raises HpoError if the file, or its log, is not the one that this connection has opened.

    Args:
        connection: its `info` keeps which files these are.
    """
    for file, name in ((path, "file"), (path.with_name(f"{path.name}-wal"), "log")):
        try:
            status = file.stat()
            identity = (status.st_dev, status.st_ino)
        except FileNotFoundError:
            identity = None
        known = connection.info.setdefault(name, identity) or identity
        connection.info[name] = known
        if identity != known:
            raise _error(file, "deleted" if identity is None else "replaced")
    with path.open("rb") as opened:
        header = opened.read(32)
    page_size, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    if path.stat().st_size < pages * (65536 if page_size == 1 else page_size) or not header:
        raise _error(path, "truncated")


def _error(file: Path, what: str) -> HpoError:
    return HpoError(
        f"{file} was {what} while it was in use, so nothing can be stored in it; restore it, or delete what is left "
        "of the database and start the study again"
    )
