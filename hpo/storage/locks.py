"""The lock under which one process at a time creates tables and Optuna studies, and repairs them."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Engine

from hpo.errors import HpoError
from hpo.storage import transactions
from hpo.storage.url import file

_KEY = 0x68706F  # of the advisory lock on PostgreSQL
_PAUSE = 0.02  # seconds between attempts to lock on SQLite


@contextmanager
def creation_lock(engine: Engine, timeout: float | None = None) -> Iterator[None]:
    """Held by one process at a time; without it, processes that start together would collide.

    PostgreSQL takes it away from a process that is stopped for half a minute (`connections.LIMITS`).

    Args:
        timeout: seconds to wait for another holder, which may have been stopped; by default as for transactions.

    Raises:
        HpoError, or SQLAlchemy's OperationalError: another process still holds it.
    """
    timeout = transactions.RETRY_TIMEOUT if timeout is None else timeout
    end = time.monotonic() + timeout
    if engine.dialect.name == "postgresql":
        while time.monotonic() < end:
            with engine.connect() as connection:  # the lock ends with the transaction
                if connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_KEY))):
                    yield
                    with suppress(exc.DBAPIError):  # the server may have ended the session, and with it the lock
                        connection.rollback()
                    return
            time.sleep(_PAUSE)  # without a connection: a pooler may have none left for the holder's next transaction
        raise _kept("the database's tables", timeout)
    try:
        import fcntl
    except ImportError:  # Windows: what fails is retried
        yield
        return
    parent = file(engine.url).parent
    folder = os.open(parent, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise _kept(str(parent), timeout) from None
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(folder)


def _kept(what: str, timeout: float) -> HpoError:
    return HpoError(
        f"another process has kept {what} locked for {timeout:.0f} s; let it continue or end it (`ps`), and run "
        "the same command again"
    )
