"""Engines for SQLite and PostgreSQL: pragmas, schema, retries over outages. No password is ever shown."""

import atexit
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine

from hpo.errors import HpoError
from hpo.storage import schema
from hpo.storage.locks import creation_lock
from hpo.storage.url import check_folder, file, read, redacted

__all__ = [
    "check_version",
    "configure_connections",
    "connect",
    "create_engine",
    "engine_options",
    "is_available",
    "lock_table",
    "now",
    "reason",
    "redacted",
    "retry",
    "run",
    "run_with_retry",
]

T = TypeVar("T")
log = logging.getLogger(__name__)

TELL_AFTER = 1.0  # pauses as long as this come after three seconds without an answer: then it is told
RETRY_TIMEOUT = 60.0  # seconds that a locked or restarting database is waited for
CONNECT_TIMEOUT = 10.0  # the same at first contact, where the address may be wrong
IDLE_TRANSACTION_TIMEOUT = 60.0  # seconds until PostgreSQL ends the session of a client that stopped in one
# What PostgreSQL says to a client that it will not let in later, either.
_REFUSALS = (
    *("password authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist"),
    *("does not support ssl", "certificate verify failed"),
)


def connect(url: str) -> Engine:
    """An engine for `url` whose tables exist and have this version's schema.

    Raises:
        UsageError: the URL cannot be read or names a database that is not supported.
        HpoError: the database cannot be reached, written or understood.
    """
    address = read(url)
    if address.get_backend_name() == "sqlite":
        check_folder(address)
    engine = create_engine(address)
    configure_connections(engine)
    atexit.register(engine.dispose)  # the last connection to close writes SQLite's log back into the file
    shown = redacted(url)
    try:
        found = retry(lambda: _prepared(engine), CONNECT_TIMEOUT)
    except exc.DBAPIError as error:
        raise HpoError(f"the database {shown} cannot be used ({reason(error)}); check --storage") from error
    check_version(shown, found)
    return engine


def create_engine(address: URL) -> Engine:
    """An engine for an address that was `read`, as it is: nothing is checked, made or set."""
    try:
        return sa.create_engine(address, **engine_options(address))
    except ImportError as error:
        raise HpoError("PostgreSQL needs the psycopg package: pip install 'psycopg[binary]'") from error


def check_version(shown: str, found: int | None) -> None:
    """Raises HpoError where the tables have another schema than this version's."""
    if found != schema.VERSION:
        raise HpoError(
            f"the database {shown} has schema {found} and this version of hpo reads {schema.VERSION}; "
            "use the version that wrote it, or another --storage"
        )


def engine_options(address: URL) -> dict[str, Any]:
    """Keyword arguments of `create_engine` for this kind of database."""
    if address.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": RETRY_TIMEOUT}}
    # A server that vanished without a word is noticed within half a minute; the system's own limit is two hours.
    probes = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
    # One connection is kept between transactions: a server lets in a hundred clients, unless told otherwise.
    pool = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 9}
    return {**pool, "connect_args": {"connect_timeout": 10, **probes}}


def configure_connections(engine: Engine, reading: bool = False) -> None:
    """On SQLite: write-ahead log, one sync a checkpoint, and transactions that lock before they read.

    On PostgreSQL: a client that was stopped in a transaction, or whose machine vanished, does not hold its locks for
    ever. `reading`: connections made from now on can read only, on PostgreSQL too, and keep no writer waiting.
    """
    if engine.dialect.name != "sqlite":

        @event.listens_for(engine, "connect")
        def _limit(connection: Any, _: Any) -> None:
            connection.execute(f"SET idle_in_transaction_session_timeout = {int(1000 * IDLE_TRANSACTION_TIMEOUT)}")
            connection.commit()
            if reading:
                connection.read_only = True

        return

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        if reading:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def is_available(engine: Engine) -> bool:
    """Whether the database is there now and has hpo's tables; a SQLite file that is gone is not made anew."""
    try:
        if engine.dialect.name == "sqlite" and not file(engine.url).exists():
            engine.dispose()  # the open connections' file is not the one that may come back
            return False
        return run(engine, lambda connection: connection.scalar(sa.select(schema.version.c.version))) is not None
    except exc.SQLAlchemyError:
        return False


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
    """`work` in one transaction, repeated as a whole while the database is locked or away.

    Raises:
        HpoError: it was unavailable for `timeout` seconds (RETRY_TIMEOUT by default), or failed otherwise (disk full).

    Args:
        on_failure: called after every failure.
    """
    try:
        return retry(lambda: run(engine, work), timeout, on_failure)
    except (exc.IntegrityError, exc.ProgrammingError, exc.DataError):
        raise  # our own mistake: its traceback is wanted
    except (exc.DBAPIError, exc.PendingRollbackError) as error:
        shown = redacted(engine.url.render_as_string(hide_password=True))
        raise HpoError(f"the database {shown} failed: {reason(error)}") from error


def retry(work: Callable[[], T], timeout: float | None = None, on_failure: Callable[[], None] | None = None) -> T:
    """`work()`, repeated for `timeout` seconds (RETRY_TIMEOUT by default) while it fails for a passing reason.

    Args:
        on_failure: called after every failure.
    """
    timeout = RETRY_TIMEOUT if timeout is None else timeout
    end, pause, told = time.monotonic() + timeout, 0.05, False
    while True:
        try:
            return work()
        except (exc.DBAPIError, exc.PendingRollbackError) as error:
            if on_failure:
                on_failure()
            passes = not isinstance(error, exc.DBAPIError) or _passes(error)
            if not passes or time.monotonic() + pause > end:
                raise
            if not told and pause > TELL_AFTER:
                told = True
                log.warning("the database does not answer (%s); waiting up to %.0f s for it", reason(error), timeout)
        time.sleep(pause)
        pause = min(2.0, pause * 1.5)


def now(connection: Connection) -> float:
    """The database's clock in Unix seconds: leases must not depend on the clocks of several machines."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(sa.text("select extract(epoch from clock_timestamp())")).scalar_one())
    return time.time()


def lock_table(connection: Connection, table: sa.Table, mode: str = "SHARE ROW EXCLUSIVE") -> None:
    """Keeps other writers out of `table` until the transaction ends (on SQLite every transaction does)."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN {mode} MODE")


def _prepared(engine: Engine) -> int | None:
    """The version of the schema, which is made where there is none."""
    if not sa.inspect(engine).has_table(schema.version.name):
        with creation_lock(engine, RETRY_TIMEOUT):
            _create_schema(engine)
    return run(engine, lambda connection: connection.scalar(sa.select(schema.version.c.version)))


def _create_schema(engine: Engine) -> None:
    with engine.begin() as connection:
        schema.metadata.create_all(connection)
        if connection.scalar(sa.select(schema.version.c.version)) is None:
            connection.execute(sa.insert(schema.version).values(version=schema.VERSION))


def _passes(error: exc.DBAPIError) -> bool:
    """Whether the failure is one of those that go away by themselves."""
    text = str(error.orig).lower()
    if "sqlite" in type(error.orig).__module__:
        return "locked" in text or "busy" in text
    if isinstance(error, exc.OperationalError) and any(refusal in text for refusal in _REFUSALS):
        return False
    return error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError)


def reason(error: exc.DBAPIError | exc.PendingRollbackError) -> str:
    """What the driver said, in one line; drivers name users, never passwords."""
    said = error.orig if isinstance(error, exc.DBAPIError) else error
    return (str(said).strip().splitlines() or ["no reason given"])[0]
