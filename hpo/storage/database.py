"""Opening a database: `connect` creates its tables, `connect_existing` only reads where it cannot be written."""

import atexit
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection, Engine

from hpo.errors import HpoError, UsageError
from hpo.storage import schema
from hpo.storage.connections import configure_connections, create_engine
from hpo.storage.locks import creation_lock
from hpo.storage.transactions import reason, retry, run
from hpo.storage.url import check_folder, exists, file, is_writable, read, redacted

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0  # seconds to wait for a database at the first contact, when its address may be wrong


def connect(url: str, timeout: float | None = None) -> Engine:
    """An engine for `url` whose tables exist and have this version's schema.

    Args:
        timeout: seconds to wait for the database; by default CONNECT_TIMEOUT, since the address may be wrong.

    Raises:
        UsageError: the URL cannot be read or names a database that is not supported.
        HpoError: the database cannot be reached, written or understood.
    """
    engine = _open(url)
    check_version(redacted(url), _first_contact(engine, url, _create_tables, timeout))
    return engine


def connect_existing(url: str) -> Engine | None:
    """An engine for a database that has hpo's tables, read-only (`is_read_only`) if it cannot be written, else None.

    It cannot be written in a read-only folder or file, on a hot standby, or by a role that may only select.

    Raises:
        UsageError, HpoError: as `connect`.
    """
    address = read(url)
    if address.get_backend_name() == "sqlite" and is_writable(file(address)):
        return connect(url)
    engine = _open(url, reading=True)
    version, writable = _first_contact(engine, url, _inspect)
    if version is None or writable:
        engine.dispose()
        return connect(url) if writable else None
    check_version(redacted(url), version)
    return engine


def existing_engine(url: str) -> Engine:
    """The database with this URL; reading it does not create it.

    Raises:
        UsageError: there is no such database, or it has no studies yet.
    """
    if not exists(url):
        check_folder(read(url))
        raise UsageError(f"there is no database {redacted(url)}; `hpo run STUDY` creates it, --storage names another")
    engine = connect_existing(url)
    if engine is None:
        raise UsageError(f"the database {redacted(url)} has no studies yet; `hpo run STUDY` creates one")
    return engine


def writable_engine(url: str) -> Engine:
    """The database with this URL, to change it.

    Raises:
        UsageError: as `existing_engine`. HpoError: it cannot be written.
    """
    engine = existing_engine(url)
    if is_read_only(engine):
        raise HpoError(
            f"the database {redacted(url)} cannot be written here, and this command changes it; run it as a user who "
            "may, or `hpo copy` the study into a database of your own"
        )
    return engine


def is_read_only(engine: Engine) -> bool:
    """Whether `connect_existing` found that the database cannot be written."""
    return bool(engine.get_execution_options().get("reading"))


def _open(url: str, reading: bool = False) -> Engine:
    address = read(url)
    if address.get_backend_name() == "sqlite":
        check_folder(address, reading)
    engine = create_engine(address, reading)
    configure_connections(engine, reading)
    atexit.register(engine.dispose)  # the last connection to close writes SQLite's log back into the file
    return engine


def _first_contact(engine: Engine, url: str, call: Callable[[Engine], T], timeout: float | None = None) -> T:
    patience = CONNECT_TIMEOUT if timeout is None else timeout
    try:
        return retry(lambda: call(engine), patience)
    except exc.DBAPIError as error:
        raise HpoError(f"the database {redacted(url)} cannot be used ({reason(error)}); check --storage") from error


def check_version(shown: str, version: int | None) -> None:
    """Raises HpoError if the tables of the database `shown` have another schema than this version's."""
    if version != schema.VERSION:
        raise HpoError(
            f"the database {shown} has schema {version} and this version of hpo reads {schema.VERSION}; "
            "use the version that wrote it, or another --storage"
        )


def is_available(engine: Engine) -> bool:
    """Whether the database can be reached and has hpo's tables; a SQLite file that was removed is not created again."""
    try:
        if engine.dialect.name == "sqlite" and not file(engine.url).exists():
            engine.dispose()  # the open connections' file is not the one that may come back
            return False
        return _read_version(engine) is not None
    except (exc.SQLAlchemyError, OSError):  # OSError: the file's folder cannot be read
        return False
    except HpoError:  # another file is there; it may be opened once the connections to the old one are closed
        engine.dispose()
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


def _inspect(engine: Engine) -> tuple[int | None, bool]:
    """The version of hpo's tables, None without any, and whether the database can be written."""
    if not sa.inspect(engine).has_table(schema.version.name):
        return None, False
    if engine.dialect.name == "sqlite":
        return _read_version(engine), False
    writable = sa.text(
        "SELECT NOT pg_is_in_recovery() AND NOT current_setting('default_transaction_read_only')::boolean "
        f"AND has_table_privilege('{schema.studies.name}', 'UPDATE')"
    )
    return _read_version(engine), bool(run(engine, lambda connection: connection.scalar(writable)))


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
