"""The lock under which one process at a time creates tables and Optuna studies, and repairs them."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from hpo.errors import HpoError
from hpo.storage import transactions
from hpo.storage.url import file

_KEY = 0x68706F  # of the advisory lock on PostgreSQL
_PAUSE = 0.02  # seconds between attempts to lock on SQLite


@contextmanager
def creation_lock(engine: Engine, timeout: float | None = None) -> Iterator[None]:
    """Held by one process at a time; without it, processes that start together would collide.

    Args:
        timeout: seconds to wait for another holder, which may have been stopped; by default as for transactions.

    Raises:
        HpoError, or SQLAlchemy's OperationalError: another process still holds it.
    """
    timeout = transactions.RETRY_TIMEOUT if timeout is None else timeout
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:  # the lock ends with the transaction, and with the session at the latest
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(1000 * timeout)}")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_KEY)))
            yield
        return
    try:
        import fcntl
    except ImportError:  # Windows: what fails is retried
        yield
        return
    parent = file(engine.url).parent
    folder = os.open(parent, os.O_RDONLY)
    try:
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise HpoError(
                        f"another process has kept {parent} locked for {timeout:.0f} s; let it continue or end it "
                        "(`jobs`, `ps`), and run the same command again"
                    ) from None
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(folder)
