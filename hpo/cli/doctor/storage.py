"""The database: reachable, of the right version, writable, fast enough and with free connections; nothing is kept."""

import secrets
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

from hpo.cli.doctor.check import Check
from hpo.errors import HpoError, plural
from hpo.storage import schema
from hpo.storage.connections import create_engine
from hpo.storage.database import check_encoding, check_version
from hpo.storage.transactions import now, reason
from hpo.storage.url import check_folder, file, file_system, read, redacted

OLDEST_TESTED = (15,)  # of PostgreSQL
CONNECTIONS_PER_WORKER = 4
MAX_ROUND_TRIP = 0.1  # seconds
MAX_CLOCK_SKEW = 5.0  # seconds
LOCK_TIMEOUT = 5.0  # seconds


def check_storage(url: str) -> list[Check]:
    """The database as a worker would use it, and this machine's clock against the database's."""
    shown = redacted(url)
    engine = None
    try:
        address = read(url)
        engine = create_engine(address)
        if engine.dialect.name != "sqlite":
            return _check_server(engine, shown)
        check_folder(address)
        return [_check_file(engine, shown)]
    except HpoError as error:
        return [Check("storage", "fails", str(error))]
    except exc.DBAPIError as error:
        return [Check("storage", "fails", f"the database {shown} cannot be used ({reason(error)}); check --storage")]
    finally:
        if engine:
            engine.dispose()


def _check_file(engine: Engine, shown: str) -> Check:
    """A SQLite file, or the folder in which it would be created."""
    path = file(engine.url)
    if problem := _write_ahead_log_problem(path.parent):
        text = f"SQLite cannot keep a write-ahead log in {path.parent} ({problem}); use a local disk, or PostgreSQL"
        return Check("storage", "fails", text)
    kind = file_system(path.parent)
    disk = f"on a local disk{f' ({kind})' if kind else ''}"
    if not path.exists():
        return Check("storage", "ok", f"{shown} does not exist yet and will be created {disk}")
    patient = sa.create_engine(engine.url, poolclass=NullPool, connect_args={"timeout": LOCK_TIMEOUT})
    with patient.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        version = _version(connection, shown)
        try:
            _try_writing(connection)
        except exc.OperationalError as error:
            if "locked" not in reason(error):
                raise
            text = f"{shown} has been locked by another program for {LOCK_TIMEOUT:.0f} seconds; end it if it hangs"
            return Check("storage", "warning", text)
    return Check("storage", "ok", f"{shown} {disk}, {version}, writable")


def _check_server(engine: Engine, shown: str) -> list[Check]:
    """A PostgreSQL server: version, tables, permission, connections, round trip and clock."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        check_encoding(connection)
        number = connection.dialect.server_version_info or ()
        name = f"PostgreSQL {'.'.join(map(str, number))}"
        checks = [Check("storage", "ok", f"{shown}, {name}, {_version(connection, shown)}")]
        if number < OLDEST_TESTED:
            text = f"{name} is older than {OLDEST_TESTED[0]}, the oldest version that hpo is tested with; update it"
            checks.append(Check("server", "warning", text))
        try:
            _try_writing(connection)
            checks.append(Check("tables", "ok", "tables can be created and written"))
        except exc.DBAPIError as error:
            text = f"no table can be created ({reason(error)}); grant CREATE on the schema to this user"
            checks.append(Check("tables", "fails", text))
        return [*checks, _check_connections(connection), _check_round_trip(connection), _check_clock(connection)]


def _version(connection: Connection, shown: str) -> str:
    """The version of hpo's tables and the number of studies, in words.

    Raises:
        HpoError: the tables have another version.
    """
    if not sa.inspect(connection).has_table(schema.version.name):
        return "without hpo's tables, which the first command creates"
    check_version(shown, connection.scalar(sa.select(schema.version.c.version)))
    studies = connection.scalar(sa.select(sa.func.count()).select_from(schema.studies))
    return f"schema {schema.VERSION} with {plural(studies or 0, 'study', 'studies')}"


def _try_writing(connection: Connection) -> None:
    """Creates and fills a table in a transaction, and rolls it back; the connection is in autocommit mode."""
    name = f"hpo_doctor_{secrets.token_hex(4)}"
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN")
    try:
        connection.exec_driver_sql(f"CREATE TABLE {name} (x INTEGER)")
        connection.exec_driver_sql(f"INSERT INTO {name} VALUES (1)")
    finally:
        connection.exec_driver_sql("ROLLBACK")


def _write_ahead_log_problem(folder: Path) -> str:
    """Why two connections cannot share a write-ahead log in a folder; '' if they can."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".hpo-doctor-") as temporary:
            path = Path(temporary) / "t.db"
            first, second = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
            try:
                mode = first.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                first.execute("CREATE TABLE t (x)")
                second.execute("INSERT INTO t VALUES (1)")
                rows = first.execute("SELECT count(*) FROM t").fetchone()[0]
            finally:
                first.close()
                second.close()
    except (OSError, sqlite3.Error) as error:
        return str(error)
    return "" if (mode, rows) == ("wal", 1) else f"journal mode {mode}"


def _check_connections(connection: Connection) -> Check:
    """The number of free connections; the present one counts as used."""
    limits = connection.exec_driver_sql(
        "SELECT coalesce(sum(setting::int) FILTER (WHERE name = 'max_connections'), 0) "
        "- coalesce(sum(setting::int) FILTER (WHERE name <> 'max_connections'), 0) FROM pg_settings WHERE name "
        "IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
    )
    total = int(limits.scalar_one())
    used = int(connection.exec_driver_sql("SELECT sum(numbackends) FROM pg_stat_database").scalar_one())
    query = "SELECT datconnlimit, numbackends FROM pg_database JOIN pg_stat_database USING (datname) "
    limit, connected = connection.exec_driver_sql(f"{query} WHERE datname = current_database()").one()
    free = max(0, min(total - used, limit - connected if limit >= 0 else total))
    workers = free // CONNECTIONS_PER_WORKER
    text = f"{free} of {total} connections are free, enough for {plural(workers, 'more worker')}"
    if workers < 1:
        return Check("connections", "fails", f"{text}; raise max_connections, or end other programs")
    if workers < 8:
        return Check("connections", "warning", f"{text}; raise max_connections for more workers")
    return Check("connections", "ok", text)


def _check_round_trip(connection: Connection) -> Check:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        connection.exec_driver_sql("SELECT 1")
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    text = f"{1000 * seconds:.1f} ms to the server and back"
    if seconds > MAX_ROUND_TRIP:
        text += "; use a server that is closer to the workers, since every trial waits for several round trips"
        return Check("round trip", "warning", text)
    return Check("round trip", "ok", text)


def _check_clock(connection: Connection) -> Check:
    """This machine's clock against the database's, by which leases expire."""
    before = time.time()
    database = now(connection)
    skew = (before + time.time()) / 2 - database
    text = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the database's"
    if abs(skew) > MAX_CLOCK_SKEW:
        text += "; synchronise it (leases use the database's clock, times of trials this one)"
        return Check("clock", "warning", text)
    return Check("clock", "ok", text)
