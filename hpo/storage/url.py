"""Storage URLs: how they are read, checked, and shown without their password."""

import os
import re
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL

from hpo.errors import HpoError, UsageError

MOUNTS = Path("/proc/mounts")  # where Linux lists its file systems
DATABASE_FILE = re.compile(r"[\w ./-]+\.(db|sqlite3?)")  # nothing of this form has a password
SCHEMES = {"sqlite", "postgresql", "postgres", "postgresql+psycopg"}
# Kinds of file systems on disks of this machine, as Linux names them. SQLite loses data on network file systems, of
# which there are too many to list: FUSE and 9p have one for every server.
LOCAL = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "nilfs2", "bcachefs", "ubifs"),
    *("vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfs", "hfsplus", "apfs", "udf", "iso9660", "squashfs"),
    *("tmpfs", "ramfs", "rootfs", "devtmpfs", "overlay", "aufs", "ecryptfs", "erofs"),
}


def redacted(url: str) -> str:
    """`url` without its password, for messages; nothing of what cannot be parsed except a known scheme."""
    try:
        address = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        address = None
    if address is None or _has_second_at(address):
        scheme, separator, _ = url.partition("://")
        return f"{scheme}://…" if separator and scheme in SCHEMES else "…"
    secret_keys = {key for key in address.query if "pass" in key.lower()}
    return address.difference_update_query(secret_keys).render_as_string(hide_password=True)


def read(url: str) -> URL:
    """The parsed URL, with the driver that hpo uses.

    Raises:
        UsageError: it cannot be read or names a database that is not supported.
    """
    try:
        address = sa.make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise UsageError(
            f"the storage {url} is a file; write sqlite:///{url}"
            if DATABASE_FILE.fullmatch(url)
            else f"the storage {redacted(url)!r} is not a URL; write sqlite:///file.db or postgresql://user@host/name"
        ) from error
    if _has_second_at(address):
        raise UsageError(
            f"the storage {redacted(url)!r} has an @ in its password or its name; write it as %40, or set PGPASSWORD "
            "instead of the password"
        )
    if address.drivername == "postgres" or address.get_backend_name() == "postgresql":
        address = address.set(drivername="postgresql+psycopg")
    if address.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(f"the storage {redacted(url)!r} is neither sqlite:///… nor postgresql://…; use one of these")
    if address.get_backend_name() == "sqlite" and address.database in (None, "", ":memory:"):
        raise UsageError("a SQLite storage needs a file, for example sqlite:///hpo.db")
    return address


def _has_second_at(address: URL) -> bool:
    """Whether the password has an @, so that its end is read as part of the host, the name or the query."""
    return address.get_backend_name() != "sqlite" and "@" in f"{address.host}{address.database}{dict(address.query)}"


def file(address: URL) -> Path:
    """The file of a SQLite database.

    Raises:
        HpoError: its path is a loop of links, too long, or otherwise no path of a file.
    """
    name = str(address.database)
    try:
        path = Path(name).resolve()
        with suppress(FileNotFoundError):
            path.stat()
        return path
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links, until Python 3.12
        reason = getattr(error, "strerror", None) or str(error).partition(" from ")[0]
        raise HpoError(f"the path {name!r} of the database cannot be used ({reason}); use another --storage") from error


def is_file(url: str) -> bool:
    """Whether the database is a file, which only the processes of one host may use."""
    return read(url).get_backend_name() == "sqlite"


def independent_of_folder(url: str) -> str:
    """The URL with the whole path of a SQLite file, for processes that run in other folders."""
    address = read(url)
    return url if not is_file(url) else address.set(database=str(file(address))).render_as_string(hide_password=False)


def exists(url: str) -> bool:
    """Whether the database may have studies: a missing SQLite file has none, and reading must not create it."""
    address = read(url)
    return address.get_backend_name() != "sqlite" or file(address).exists()


def is_writable(path: Path) -> bool:
    """Whether SQLite could create or change this file and the files of its log."""
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def check_folder(address: URL, reading: bool = False) -> None:
    """Raises HpoError if SQLite could not write there (not if `reading`), or would lose data."""
    path = file(address)
    if not path.parent.is_dir():
        raise HpoError(f"the folder {path.parent} of the database does not exist; create it, or change --storage")
    if not reading and not is_writable(path):
        raise HpoError(f"{path} cannot be written; change its permissions, or use another --storage")
    kind = file_system(path.parent)
    if kind and kind not in LOCAL:
        raise HpoError(
            f"{path} lies on a file system that is not known as local ({kind}), and SQLite loses data on network file "
            "systems; use a local disk or PostgreSQL"
        )


def file_system(folder: Path) -> str:
    """The kind of file system of `folder`, as Linux names it; '' on other systems."""
    longest, kind = -1, ""
    with suppress(OSError):
        for line in MOUNTS.read_text(errors="surrogateescape").splitlines():
            _, point, name, *_ = line.split()
            point = point.replace("\\040", " ")
            if folder.is_relative_to(point) and len(point) >= longest:  # of equal ones, the last mounted is visible
                longest, kind = len(point), name
    return kind
