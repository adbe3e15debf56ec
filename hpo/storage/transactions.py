"""Transactions that wait for an unavailable database, the database's clock, and locks on tables."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection, Engine

from hpo.errors import HpoError
from hpo.storage.url import redacted

T = TypeVar("T")
log = logging.getLogger(__name__)

RETRY_TIMEOUT = 60.0  # seconds to wait for a database that is locked or restarting
CALL_TIMEOUT = 35.0  # seconds of silence after which a connection to PostgreSQL is given up, and its call retried
MAX_PAUSE = 2.0  # seconds between two tries, a small part of a lease: its holder must extend it soon after an outage
WARN_AFTER = (8.0, 30.0)  # seconds of waiting before the first warning, and between warnings
# What PostgreSQL answers to a client that it will refuse later as well.
_REFUSALS = (
    *(
        "password authentication failed",
        "no password supplied",
        "no pg_hba.conf entry",
        "pg_hba.conf rejects",
        "does not exist",
    ),
    *("does not support ssl", "certificate verify failed"),
)


def run(engine: Engine, work: Callable[[Connection], T]) -> T:
    """`work` in one transaction, once."""
    with engine.begin() as connection:
        return work(connection)


def run_with_retry(
    engine: Engine,
    work: Callable[[Connection], T],
    timeout: float | None = None,
    on_failure: Callable[[], None] | None = None,
) -> T:
    """`work` in one transaction, which is repeated as a whole while the database is locked or unavailable.

    Args:
        timeout, on_failure: see `retry`.

    Raises:
        HpoError: the database was unavailable for `timeout` seconds, or failed for another reason (disk full).
    """
    try:
        return retry(lambda: run(engine, work), timeout, on_failure)
    except (exc.DBAPIError, exc.PendingRollbackError) as error:
        if isinstance(error, exc.IntegrityError | exc.ProgrammingError | exc.DataError) and not _is_denied(error):
            raise  # a defect of hpo, whose traceback is needed
        shown = redacted(engine.url.render_as_string(hide_password=True))
        raise HpoError(f"the database {shown} failed: {reason(error)}") from error


def retry(
    work: Callable[[], T],
    timeout: float | None = None,
    on_failure: Callable[[], None] | None = None,
) -> T:
    """`work()`, repeated while it fails for a temporary reason. Long waits are logged, with the reason.

    Args:
        timeout: seconds; RETRY_TIMEOUT by default. on_failure: called after every failure.
    """
    timeout = RETRY_TIMEOUT if timeout is None else timeout
    end, pause = time.monotonic() + timeout, 0.05
    with _Watch(timeout) as watch:
        while True:
            try:
                return work()
            except (exc.DBAPIError, exc.PendingRollbackError) as error:
                watch.reason = reason(error)
                if on_failure:
                    on_failure()
                if not _is_temporary(error) or time.monotonic() + pause > end:
                    raise
            time.sleep(pause)
            pause = min(MAX_PAUSE, pause * 1.5)


class _Watch:
    """Warns of a wait for the database, from another thread."""

    def __init__(self, timeout: float) -> None:
        self.reason = "no answer"
        self._timeout, self._start = timeout, time.monotonic()
        self._over = threading.Event()
        self._timer = threading.Timer(WARN_AFTER[0], self._warn)  # most calls end before it begins
        self._timer.daemon = True

    def __enter__(self) -> "_Watch":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._over.set()

    def _warn(self) -> None:
        while not self._over.is_set():
            waited = time.monotonic() - self._start
            left = f"; waiting up to {max(self._timeout - waited, 0):.0f} s more" if self._timeout > waited else ""
            log.warning("the database has not answered for %.0f s (%s)%s", waited, self.reason, left)
            self._over.wait(WARN_AFTER[1])


def now(connection: Connection) -> float:
    """The database's clock in Unix seconds: leases must not depend on the clocks of several machines."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(sa.text("select extract(epoch from clock_timestamp())")).scalar_one())
    return time.time()


def lock_table(connection: Connection, table: sa.Table, mode: str = "SHARE ROW EXCLUSIVE") -> None:
    """Keeps other writers out of `table` until the transaction ends (on SQLite every transaction does)."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN {mode} MODE")


def reason(error: Exception) -> str:
    """The driver's message in one line; drivers name users, never passwords."""
    message = str(error.orig if isinstance(error, exc.DBAPIError) else error)
    return (message.strip().splitlines() or ["no reason given"])[0]


def _is_denied(error: exc.DBAPIError) -> bool:
    """Whether the role lacks a privilege."""
    return getattr(error.orig, "sqlstate", None) == "42501"


def _is_temporary(error: exc.DBAPIError | exc.PendingRollbackError) -> bool:
    if not isinstance(error, exc.DBAPIError):
        return True
    message = str(error.orig).lower()
    if "sqlite" in type(error.orig).__module__:
        return "locked" in message or "busy" in message
    if isinstance(error, exc.OperationalError) and any(refusal in message for refusal in _REFUSALS):
        return False
    return error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError)
