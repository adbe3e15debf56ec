"""How connections to SQLite and PostgreSQL are made and configured."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import URL, Connection, CreateEnginePlugin, Engine
from sqlalchemy.pool import NullPool

from hpo.errors import HpoError
from hpo.storage import transactions
from hpo.storage.sqlite_file import open_file, open_read_only
from hpo.storage.url import file

BUSY_TIMEOUT = 5.0  # seconds that SQLite itself waits for a lock; then it is retried
LIMITS = {  # seconds, of every transaction on PostgreSQL
    "lock_timeout": 10.0,
    "statement_timeout": 30.0,
    # After this the session of a client that vanished is ended. Others wait for its locks, and give up after a minute.
    "idle_in_transaction_session_timeout": 30.0,
}


def create_engine(address: URL, reading: bool = False) -> Engine:
    """An engine for the result of `url.read`, without any check, table or setting."""
    try:
        return sa.create_engine(address, **engine_options(address, reading))
    except ImportError as error:
        raise HpoError("PostgreSQL needs the psycopg package: pip install 'psycopg[binary]'") from error


def engine_options(address: URL, reading: bool = False) -> dict[str, Any]:
    """Keyword arguments of `sqlalchemy.create_engine` for this kind of database."""
    options = {"execution_options": {"reading": True}} if reading else {}
    if address.get_backend_name() == "sqlite":
        if reading:  # each transaction opens the file anew, since somebody else may begin to write
            return {**options, "creator": lambda: open_read_only(file(address)), "poolclass": NullPool}
        return {"connect_args": {"timeout": min(BUSY_TIMEOUT, transactions.RETRY_TIMEOUT)}}
    # A server that vanished is noticed within half a minute; the system's own limit is two hours.
    probes = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 15_000}
    # One connection is kept between transactions: by default a server accepts a hundred clients.
    pool = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 9}
    # A pooler in transaction mode may run each transaction on another server connection, without prepared statements.
    driver = {"connect_timeout": 5, "prepare_threshold": None, "client_encoding": "utf8"}
    return {**options, **pool, "connect_args": {**driver, **probes}}


# How a server notices that a client's machine has vanished, within two minutes instead of two hours.
_SERVER_PROBES = {
    "tcp_keepalives_idle": 60,  # seconds, as the next
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 5,
    "tcp_user_timeout": 60_000,  # milliseconds
}


def _probe_client(connection: Any) -> None:
    """Has the server probe this connection while it is idle; not behind a pooler, whose sessions other clients use."""
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SERVER_PROBES.items())
    # A pooler invents the process id that it tells its clients.
    query = f"SELECT {calls} WHERE pg_backend_pid() = {connection.info.backend_pid}"
    connection.autocommit = True
    connection.execute(query)
    connection.autocommit = False


def _limit() -> sa.Select[Any]:
    """Sets the LIMITS for one transaction alone: a pooler hands the session to other clients."""
    return sa.select(*(sa.func.set_config(name, f"{1000 * seconds:.0f}", True) for name, seconds in LIMITS.items()))


class ConfiguredEngine(CreateEnginePlugin):
    """Configures an engine that another package creates, before its first connection.

    It takes the keyword argument `configure`, a function of the engine, of `sqlalchemy.create_engine(plugins=["hpo"])`.
    """

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        super().__init__(url, kwargs)
        self._configure = kwargs.pop("configure")

    def update_url(self, url: URL) -> URL:
        return url

    def engine_created(self, engine: Engine) -> None:
        self._configure(engine)


plugins.register("hpo", __name__, ConfiguredEngine.__name__)


def configure_connections(engine: Engine, reading: bool = False, other: Engine | None = None) -> None:
    """On SQLite: write-ahead log, one sync a checkpoint, and transactions that lock before they read.

    On PostgreSQL: a client that stopped in a transaction, or whose machine vanished, loses its locks after a while, and
    a silent server is given up.

    Args:
        reading: connections opened from now on are read-only and keep no writer waiting.
        other: an engine for the same database that was connected before.
    """
    if engine.dialect.name != "sqlite":
        limit = _limit()

        @event.listens_for(engine, "do_connect")
        def _connect(_dialect: Any, _record: Any, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
            from hpo.storage.limited_connection import LimitedConnection  # psycopg is not always installed

            return LimitedConnection.connect(*arguments, **options)

        @event.listens_for(engine, "connect")
        def _configure_postgresql(connection: Any, _: Any) -> None:
            _probe_client(connection)
            if reading:
                connection.read_only = True

        @event.listens_for(engine, "begin")
        def _limit_transaction(connection: Connection) -> None:
            connection.execute(limit)

        return

    opened = open_file(engine, other)
    if not reading:  # SQLite would create the file if it was deleted
        event.listen(engine, "do_connect", lambda *_: opened.check())

    @event.listens_for(engine, "connect", insert=True)  # first: a connection for which this fails is not counted
    def _configure_sqlite(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # `_begin` begins transactions instead of the driver
        if reading:
            connection.execute("PRAGMA query_only=ON")
            return
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if reading:
            connection.exec_driver_sql("BEGIN")
            return
        opened.check()  # before SQLite uses what may be another file
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        opened.check()  # after it may have waited
