"""The lock under which tables and Optuna's studies are made and repaired: by one process at a time."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from hpo.errors import HpoError
from hpo.storage.url import file

_KEY = 0x68706F  # the advisory lock on PostgreSQL
_LOOK = 0.02  # seconds between looks whether SQLite's lock is free


@contextmanager
def creation_lock(engine: Engine, timeout: float) -> Iterator[None]:
    """Held by one process at a time while tables are made; eight that start together would collide.

    Args:
        timeout: seconds after which a holder that was stopped is waited for no longer.

    Raises:
        HpoError, or SQLAlchemy's OperationalError: another process held it all the while.
    """
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:  # the lock ends with the transaction, and with the session at the latest
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(1000 * timeout)}")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_KEY)))
            yield
        return
    try:
        import fcntl
    except ImportError:  # Windows: the repetition of what fails has to do
        yield
        return
    folder = os.open(file(engine.url).parent, os.O_RDONLY)
    try:
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise HpoError(
                        f"another process has kept {file(engine.url).parent} locked for {timeout:.0f} s; "
                        "let it go on or end it (`jobs`, `ps`), and run the same command again"
                    ) from None
            time.sleep(_LOOK)
        yield
    finally:
        os.close(folder)
