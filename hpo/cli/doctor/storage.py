"""The database: reachable, of the right version, writable, quick and not full; asked without leaving a trace."""

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
from hpo.storage.database import check_version, create_engine, now, reason, redacted
from hpo.storage.url import check_folder, file, file_system, read

TESTED = (15,)  # the oldest PostgreSQL that hpo was tried on
CONNECTIONS = 4  # that a worker was seen to hold
SLOW = 0.1  # seconds a round trip
SKEW = 5.0  # seconds between two clocks
LOCKED = 5.0  # seconds that a lock is waited for


def check_storage(url: str) -> list[Check]:
    """What a worker would meet in the database, and the clock beside the database's."""
    shown = redacted(url)
    try:
        address = read(url)
        engine = create_engine(address)
        if engine.dialect.name == "sqlite":
            check_folder(address)
    except HpoError as error:
        return [Check("storage", "fails", str(error))]
    try:
        return _check_file(engine, shown) if engine.dialect.name == "sqlite" else _check_server(engine, shown)
    except HpoError as error:
        return [Check("storage", "fails", str(error))]
    except exc.DBAPIError as error:
        return [Check("storage", "fails", f"the database {shown} cannot be used ({reason(error)}); check --storage")]
    finally:
        engine.dispose()


def _check_file(engine: Engine, shown: str) -> list[Check]:
    """A SQLite file, or the folder in which it would be made."""
    path = file(engine.url)
    if problem := _without_log(path.parent):
        return [Check("storage", "fails", f"SQLite cannot keep a write-ahead log in {path.parent} ({problem}); "
                      "use a local disk, or PostgreSQL")]  # fmt: skip
    kind = file_system(path.parent)
    place = f"on a local disk{f' ({kind})' if kind else ''}"
    if not path.exists():
        return [Check("storage", "ok", f"{shown} is not there yet and will be made {place}")]
    own = sa.create_engine(engine.url, poolclass=NullPool, connect_args={"timeout": LOCKED})
    with own.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        version = _version(connection, shown)
        try:
            _try_writing(connection)
        except exc.OperationalError as error:
            if "locked" not in reason(error):
                raise
            text = f"another program has kept {shown} locked for {LOCKED:.0f} seconds; end it if it hangs"
            return [Check("storage", "warning", text)]
    return [Check("storage", "ok", f"{shown} {place}, {version}, can be written")]


def _check_server(engine: Engine, shown: str) -> list[Check]:
    """A PostgreSQL server: version, tables, permission, connections, round trip and clock."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        number = connection.dialect.server_version_info or ()
        name = f"PostgreSQL {'.'.join(map(str, number))}"
        checks = [Check("storage", "ok", f"{shown}, {name}, {_version(connection, shown)}")]
        if number < TESTED:
            checks.append(
                Check("server", "warning", f"{name} is older than {TESTED[0]}, the oldest that hpo was tried on")
            )
        try:
            _try_writing(connection)
            checks.append(Check("tables", "ok", "tables can be made and written"))
        except exc.DBAPIError as error:
            text = f"no table can be made ({reason(error)}); grant CREATE on the schema to this user"
            checks.append(Check("tables", "fails", text))
        checks += [_check_connections(connection), _check_round_trip(connection), _check_clock(connection)]
    return checks


def _version(connection: Connection, shown: str) -> str:
    """What tables there are, in words.

    Raises:
        HpoError: they are another version's.
    """
    if not sa.inspect(connection).has_table(schema.version.name):
        return "without hpo's tables, which the first use makes"
    check_version(shown, connection.scalar(sa.select(schema.version.c.version)))
    studies = connection.scalar(sa.select(sa.func.count()).select_from(schema.studies))
    return f"schema {schema.VERSION} with {plural(studies or 0, 'study', 'studies')}"


def _try_writing(connection: Connection) -> None:
    """Makes a table and writes to it in a transaction that is taken back. The connection commits by itself."""
    name = f"hpo_doctor_{secrets.token_hex(4)}"
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN")
    try:
        connection.exec_driver_sql(f"CREATE TABLE {name} (x INTEGER)")
        connection.exec_driver_sql(f"INSERT INTO {name} VALUES (1)")
    finally:
        connection.exec_driver_sql("ROLLBACK")


def _without_log(folder: Path) -> str:
    """Why two connections cannot share a write-ahead log in a folder; '' if they can."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".hpo-doctor-") as place:
            first, second = (sqlite3.connect(Path(place) / "t.db", isolation_level=None) for _ in range(2))
            try:
                mode = first.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                first.execute("CREATE TABLE t (x)")
                second.execute("INSERT INTO t VALUES (1)")
                found = first.execute("SELECT count(*) FROM t").fetchone()[0]
            finally:
                first.close()
                second.close()
    except (OSError, sqlite3.Error) as error:
        return str(error)
    return "" if (mode, found) == ("wal", 1) else f"journal mode {mode}"


def _check_connections(connection: Connection) -> Check:
    """How many connections are free, this one counted as taken."""
    setting = "SELECT coalesce(sum(setting::int), 0) FROM pg_settings WHERE name "
    reserved = "IN ('superuser_reserved_connections', 'reserved_connections')"
    most = int(connection.exec_driver_sql(f"{setting} = 'max_connections'").scalar_one())
    most -= int(connection.exec_driver_sql(f"{setting} {reserved}").scalar_one())
    used = int(connection.exec_driver_sql("SELECT sum(numbackends) FROM pg_stat_database").scalar_one())
    query = "SELECT datconnlimit, numbackends FROM pg_database JOIN pg_stat_database USING (datname) "
    limit, here = connection.exec_driver_sql(f"{query} WHERE datname = current_database()").one()
    free = max(0, min(most - used, limit - here if limit >= 0 else most))
    workers = free // CONNECTIONS
    text = f"{free} of {most} connections are free, enough for {workers} more workers"
    if workers < 1:
        return Check("connections", "fails", f"{text}; raise max_connections, or end other programs")
    if workers < 8:
        return Check("connections", "warning", f"{text}; raise max_connections for more than that")
    return Check("connections", "ok", text)


def _check_round_trip(connection: Connection) -> Check:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        connection.exec_driver_sql("SELECT 1")
        times.append(time.perf_counter() - began)
    text = f"{1000 * statistics.median(times):.1f} ms to the server and back"
    if statistics.median(times) > SLOW:
        return Check("round trip", "warning", f"{text}; move the workers nearer, each trial waits for some of these")
    return Check("round trip", "ok", text)


def _check_clock(connection: Connection) -> Check:
    """This machine's clock against the database's, by which leases are counted."""
    before = time.time()
    there = now(connection)
    skew = (before + time.time()) / 2 - there
    text = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the database's"
    if abs(skew) > SKEW:
        text += "; synchronise it (leases go by the database's clock, times of trials by this one)"
        return Check("clock", "warning", text)
    return Check("clock", "ok", text)
