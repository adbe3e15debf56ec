"""Storage URLs: read, checked, and shown without their password."""

import os
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL

from hpo.errors import HpoError, UsageError

MOUNTS = Path("/proc/mounts")  # where Linux lists its file systems
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "lustre", "afs", "gpfs"}


def redacted(url: str) -> str:
    """`url` without its password, fit to be printed."""
    try:
        address = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        address = None
    if address is None or _torn(address):
        scheme, found, _ = url.partition("://")
        if not found and "@" not in url:  # a file's name, for example: it holds no password
            return url
        return f"{scheme}://…" if found and "@" not in scheme else "…"
    secret = {key for key in address.query if "pass" in key.lower()}
    return address.difference_update_query(secret).render_as_string(hide_password=True)


def read(url: str) -> URL:
    """The URL with its driver named.

    Raises:
        UsageError: it cannot be read or names a database that is not supported.
    """
    try:
        address = sa.make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise UsageError(
            f"the storage {redacted(url)!r} is no URL; write sqlite:///file.db or postgresql://user@host/name"
        ) from error
    if _torn(address):
        raise UsageError(
            f"the storage {redacted(url)!r} has an @ in its password or its name; write it as %40, or leave the "
            "password out and set PGPASSWORD"
        )
    if address.drivername == "postgres" or address.get_backend_name() == "postgresql":
        address = address.set(drivername="postgresql+psycopg")
    if address.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(f"the storage {redacted(url)!r} is neither sqlite:///… nor postgresql://…; use one of these")
    if address.get_backend_name() == "sqlite" and address.database in (None, "", ":memory:"):
        raise UsageError("a SQLite storage needs a file, for example sqlite:///hpo.db")
    return address


def _torn(address: URL) -> bool:
    """Whether a second @ has torn the password apart, so that its rest passes for a host or a name."""
    return address.get_backend_name() != "sqlite" and "@" in f"{address.host}{address.database}"


def file(address: URL) -> Path:
    """Where a SQLite database lies."""
    return Path(str(address.database)).resolve()


def exists(url: str) -> bool:
    """Whether there can be studies: a SQLite file that is not there has none, and reading must not make it."""
    address = read(url)
    return address.get_backend_name() != "sqlite" or file(address).exists()


def check_folder(address: URL) -> None:
    """Raises HpoError where SQLite could not write, or would lose data."""
    path = file(address)
    if not path.parent.is_dir():
        raise HpoError(f"the folder {path.parent} of the database does not exist; make it, or change --storage")
    if not os.access(path if path.exists() else path.parent, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise HpoError(f"{path} cannot be written; change its permissions, or use another --storage")
    kind = file_system(path.parent)
    if kind in NETWORK:
        raise HpoError(
            f"{path} lies on a network file system ({kind}), where SQLite loses data; use a local disk or PostgreSQL"
        )


def file_system(folder: Path) -> str:
    """The kind of file system that `folder` lies on, as Linux names it; '' elsewhere."""
    best, kind = -1, ""
    with suppress(OSError):
        for line in MOUNTS.read_text().splitlines():
            _, point, name, *_ = line.split()
            point = point.replace("\\040", " ")
            if folder.is_relative_to(point) and len(point) >= best:  # what is mounted later hides what was there
                best, kind = len(point), name
    return kind
