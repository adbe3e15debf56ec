"""Connections to SQLite and PostgreSQL: how they are configured, and the tables that `connect` creates."""

import atexit
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine

from hpo.errors import HpoError
from hpo.storage import schema, transactions
from hpo.storage.locks import creation_lock
from hpo.storage.sqlite_file import check_file
from hpo.storage.transactions import reason, retry, run
from hpo.storage.url import check_folder, file, read, redacted

CONNECT_TIMEOUT = 10.0  # seconds to wait for a database at the first contact, when its address may be wrong
BUSY_TIMEOUT = 5.0  # seconds that SQLite itself waits for a lock; then it is retried
LIMITS = {  # seconds, of every transaction on PostgreSQL
    "lock_timeout": 10.0,
    "statement_timeout": 30.0,
    "idle_in_transaction_session_timeout": 60.0,  # after this the session of a client that stopped is ended
}


def connect(url: str, timeout: float | None = None) -> Engine:
    """An engine for `url` whose tables exist and have this version's schema.

    Args:
        timeout: seconds to wait for the database; by default CONNECT_TIMEOUT, since the address may be wrong.

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
    try:
        patience = CONNECT_TIMEOUT if timeout is None else timeout
        version = retry(lambda: _create_tables(engine), patience, interrupt=transactions.calls(engine).interrupt)
    except exc.DBAPIError as error:
        raise HpoError(f"the database {redacted(url)} cannot be used ({reason(error)}); check --storage") from error
    check_version(redacted(url), version)
    return engine


def create_engine(address: URL) -> Engine:
    """An engine for the result of `url.read`, without any check, table or setting."""
    try:
        return sa.create_engine(address, **engine_options(address))
    except ImportError as error:
        raise HpoError("PostgreSQL needs the psycopg package: pip install 'psycopg[binary]'") from error


def check_version(shown: str, version: int | None) -> None:
    """Raises HpoError if the tables of the database `shown` have another schema than this version's."""
    if version != schema.VERSION:
        raise HpoError(
            f"the database {shown} has schema {version} and this version of hpo reads {schema.VERSION}; "
            "use the version that wrote it, or another --storage"
        )


def engine_options(address: URL) -> dict[str, Any]:
    """Keyword arguments of `sqlalchemy.create_engine` for this kind of database."""
    if address.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": min(BUSY_TIMEOUT, transactions.RETRY_TIMEOUT)}}
    # A server that vanished is noticed within half a minute; the system's own limit is two hours.
    probes = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 15_000}
    # One connection is kept between transactions: by default a server accepts a hundred clients.
    pool = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 9}
    # A pooler in transaction mode may run each transaction on another server connection, without prepared statements.
    driver = {"connect_timeout": 5, "prepare_threshold": None, "client_encoding": "utf8"}
    return {**pool, "connect_args": {**driver, **probes}}


def _limit() -> sa.Select[Any]:
    """Sets the LIMITS for one transaction alone: a pooler hands the session to other clients."""
    return sa.select(*(sa.func.set_config(name, f"{1000 * seconds:.0f}", True) for name, seconds in LIMITS.items()))


@contextmanager
def limited_transactions(url: URL) -> Iterator[None]:
    """Gives the transactions of all engines for `url` on PostgreSQL their LIMITS, also of those that Optuna creates."""
    limit = _limit()

    def limit_transaction(connection: Connection) -> None:
        if connection.engine.url == url:
            connection.execute(limit)

    if url.get_backend_name() == "sqlite":
        yield
        return
    event.listen(Engine, "begin", limit_transaction)
    try:
        yield
    finally:
        event.remove(Engine, "begin", limit_transaction)


def configure_connections(engine: Engine, reading: bool = False) -> None:
    """On SQLite: write-ahead log, one sync a checkpoint, and transactions that lock before they read.

    On PostgreSQL: a client that stopped in a transaction, or whose machine vanished, loses its locks after a while.
    `reading`: connections opened from now on are read-only and keep no writer waiting.
    """
    if engine.dialect.name != "sqlite":
        limit = _limit()

        @event.listens_for(engine, "connect")
        def _configure_postgresql(connection: Any, _: Any) -> None:
            calls = transactions.calls(engine)
            calls.connections.add(connection)
            calls.last = time.monotonic()
            if reading:
                connection.read_only = True

        @event.listens_for(engine, "before_cursor_execute")
        def _note_call(*_: Any) -> None:
            transactions.calls(engine).last = time.monotonic()

        @event.listens_for(engine, "begin")
        def _limit_transaction(connection: Connection) -> None:
            connection.execute(limit)

        return

    @event.listens_for(engine, "connect")
    def _configure_sqlite(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # `_begin` begins transactions instead of the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        if reading:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if not reading:
            check_file(connection, file(engine.url))
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def is_available(engine: Engine) -> bool:
    """Whether the database can be reached and has hpo's tables; a SQLite file that was removed is not created again."""
    try:
        if engine.dialect.name == "sqlite" and not file(engine.url).exists():
            engine.dispose()  # the open connections' file is not the one that may come back
            return False
        return _read_version(engine) is not None
    except exc.SQLAlchemyError:
        return False


def _read_version(engine: Engine) -> int | None:
    return run(engine, lambda connection: connection.scalar(sa.select(schema.version.c.version)))


def _create_tables(engine: Engine) -> int | None:
    """Creates the tables if there are none; returns the version of their schema."""
    with engine.connect() as connection:
        check_encoding(connection)
    if not sa.inspect(engine).has_table(schema.version.name):
        with creation_lock(engine), engine.begin() as connection:
            schema.metadata.create_all(connection)
            if connection.scalar(sa.select(schema.version.c.version)) is None:
                connection.execute(sa.insert(schema.version).values(version=schema.VERSION))
    return _read_version(engine)


def check_encoding(connection: Connection) -> None:
    """Raises HpoError if the database cannot store every character: names and tracebacks may have any."""
    if connection.dialect.name == "sqlite":
        return
    driver: Any = connection.connection.driver_connection
    encoding = driver.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise HpoError(
            f"the database {connection.engine.url.database!r} has the encoding {encoding}, which cannot store every "
            "character; create one by CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        )
