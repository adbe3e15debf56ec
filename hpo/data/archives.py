"""Published archives: fetched once, checked every time, and never unpickled or unpacked onto the disk."""

import hashlib
import logging
import os
import secrets
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

from hpo.errors import HpoError

log = logging.getLogger(__name__)

BLOCK = 1 << 20  # bytes read at once
SILENCE = 60.0  # seconds without a byte after which a connection counts as lost


class Archive(NamedTuple):
    """A file that its authors publish: its address, whose last part is its name, and the MD5 that they give for it."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


# As on https://www.cs.toronto.edu/~kriz/cifar.html.
PUBLISHED_AT = "https://www.cs.toronto.edu/~kriz"
ARCHIVES = {
    "cifar-10": Archive(f"{PUBLISHED_AT}/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    "cifar-100": Archive(f"{PUBLISHED_AT}/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
}


def obtain(archive: Archive, folder: Path) -> Path:
    """The archive's path in the folder, fetched if it is not there, and checked.

    Raises:
        HpoError: it cannot be fetched or kept, or what is there is not the whole published file; that is left as it is.
    """
    path = folder / archive.name
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder):
                if not path.exists():  # another process may have fetched it meanwhile
                    _fetch(archive, path)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, _md5).hexdigest()
    except OSError as error:
        raise HpoError(
            f"{path} cannot be kept or read ({error.strerror or error}); set HPO_DATA to a folder that can be used"
        ) from error
    if found != archive.md5:
        raise HpoError(
            f"{path} is damaged or not the published file (its MD5 is {found}, not {archive.md5}); "
            "it is left as it is: remove it, and it is fetched anew"
        )
    return path


def read_members(path: Path, names: Sequence[str]) -> dict[str, bytearray]:
    """The contents of some members of a .tar.gz, by the last part of their names.

    Raises:
        HpoError: the archive cannot be read to its end, or a member is missing.
    """
    found: dict[str, bytearray] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in names and (file := archive.extractfile(member)):
                    found[name] = bytearray(file.read())
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise HpoError(f"{path} cannot be unpacked ({error}); it is left as it is") from error
    if missing := [name for name in names if name not in found]:
        raise HpoError(f"{path} has no {missing[0]} in it; it is left as it is")
    return found


def _fetch(archive: Archive, path: Path) -> None:
    """Downloads to a name of its own and renames once all is there and right."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    digest = _md5()
    try:
        with part.open("xb") as file:
            for block in _received(archive, path):
                file.write(block)
                digest.update(block)
        if digest.hexdigest() != archive.md5:
            raise _not_fetched(archive, path, f"what came has the MD5 {digest.hexdigest()}, not {archive.md5}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _received(archive: Archive, path: Path) -> Iterator[bytes]:
    """The file's bytes in blocks, its progress told in tenths."""
    done = told = 0
    try:
        with urlopen(archive.url, timeout=SILENCE) as answer:
            total = answer.length
            log.warning("fetching %s%s into %s", archive.url, f" ({_megabytes(total)})" if total else "", path.parent)
            while block := answer.read(BLOCK):
                done += len(block)
                if total and 10 * done // total > told:
                    told = 10 * done // total
                    log.warning("%s: %s of %s", archive.name, _megabytes(done), _megabytes(total))
                yield block
    except HTTPError as error:
        error.close()  # it holds the connection
        raise _not_fetched(archive, path, str(error)) from error
    except (OSError, HTTPException) as error:
        raise _not_fetched(archive, path, str(getattr(error, "reason", error)) or type(error).__name__) from error
    if total and done < total:
        raise _not_fetched(archive, path, f"the connection ended after {done:,} of {total:,} bytes")


def _not_fetched(archive: Archive, path: Path, reason: str) -> HpoError:
    return HpoError(
        f"{archive.name} is not in {path.parent} and could not be fetched ({reason}): download {archive.url} "
        f"yourself and put it there as {path.name}, or name its folder by `folder` or HPO_DATA"
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Held by one process at a time, so that workers that start together fetch once; where files can be locked."""
    handle = None
    with suppress(ImportError, OSError):  # Windows, some network file systems: each fetches to a name of its own
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _md5() -> "hashlib._Hash":
    """Against damage, not against forgery; the pixels are read as numbers whatever they are."""
    return hashlib.md5(usedforsecurity=False)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
