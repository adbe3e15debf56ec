"""Published archives: downloaded once, checked in every process, and neither unpickled nor unpacked onto the disk."""

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
TIMEOUT = 60.0  # seconds without a byte after which a connection counts as lost


class Archive(NamedTuple):
    """A published file: its URL, which ends in its name, and the MD5 that its authors publish."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


CIFAR = "https://www.cs.toronto.edu/~kriz"
ZENODO = "https://zenodo.org/records"
MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"  # the mirror that torchvision uses
FASHION_MNIST = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
SVHN = "http://ufldl.stanford.edu/housenumbers"
# Checksums as their authors publish them; those of MNIST, Fashion-MNIST and SVHN as in torchvision 0.29.
ARCHIVES = {
    "cifar-10": Archive(f"{CIFAR}/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    "cifar-100": Archive(f"{CIFAR}/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
    "cifar-10-c": Archive(f"{ZENODO}/2535967/files/CIFAR-10-C.tar", "56bf5dcef84df0e2308c6dcbcbbd8499"),
    "cifar-100-c": Archive(f"{ZENODO}/3555552/files/CIFAR-100-C.tar", "11f0ed0f1191edbf9fa23466ae6021d3"),
    "mnist/train-images": Archive(f"{MNIST}/train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "mnist/train-labels": Archive(f"{MNIST}/train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    "mnist/test-images": Archive(f"{MNIST}/t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    "mnist/test-labels": Archive(f"{MNIST}/t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    "fashion/train-images": Archive(f"{FASHION_MNIST}/train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    "fashion/train-labels": Archive(f"{FASHION_MNIST}/train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
    "fashion/test-images": Archive(f"{FASHION_MNIST}/t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
    "fashion/test-labels": Archive(f"{FASHION_MNIST}/t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    "svhn/train": Archive(f"{SVHN}/train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
    "svhn/extra": Archive(f"{SVHN}/extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7"),
    "svhn/test": Archive(f"{SVHN}/test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
}


def obtain(archive: Archive, folder: Path) -> Path:
    """The archive's path in the folder; it is downloaded if it is missing, and always checked.

    Raises:
        HpoError: it cannot be downloaded or stored, or the file in the folder is not the published one; that file is
            not changed.
    """
    path = folder / archive.name
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                if not path.exists():  # another process may have downloaded it meanwhile
                    _download(archive, path)
        found = _md5(path)
    except OSError as error:
        raise HpoError(
            f"{path} cannot be written or read ({error.strerror or error}); set HPO_DATA to another folder"
        ) from error
    if found != archive.md5:
        raise HpoError(
            f"{path} is damaged or not the published file (its MD5 is {found}, not {archive.md5}); delete it for a new "
            "download"
        )
    return path


def read_members(path: Path, names: Sequence[str]) -> dict[str, bytearray]:
    """The contents of members of a .tar.gz, by the last part of their names.

    Raises:
        HpoError: the archive cannot be read to its end, or a member is missing.
    """
    contents: dict[str, bytearray] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in names and (file := archive.extractfile(member)):
                    contents[name] = bytearray(file.read())
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise HpoError(f"{path} cannot be unpacked ({error}); delete it for a new download") from error
    if missing := [name for name in names if name not in contents]:
        raise HpoError(f"{path} does not contain {missing[0]}; delete it for a new download")
    return contents


def _download(archive: Archive, path: Path) -> None:
    """Downloads to a temporary name and renames the file once it is complete and right."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            for block in _receive(archive, path):
                file.write(block)
        if (found := _md5(part)) != archive.md5:
            raise _download_error(archive, path, f"the received file has the MD5 {found}, not {archive.md5}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _receive(archive: Archive, path: Path) -> Iterator[bytes]:
    """The file's bytes in blocks; every tenth of it is logged."""
    received = tenths = 0
    try:
        with urlopen(archive.url, timeout=TIMEOUT) as response:
            total = response.length
            log.warning("downloading %s%s to %s", archive.url, f" ({total / 1e6:.1f} MB)" if total else "", path.parent)
            while block := response.read(BLOCK):
                received += len(block)
                if total and 10 * received // total > tenths:
                    tenths = 10 * received // total
                    log.warning("%s: %.1f MB of %.1f MB", archive.name, received / 1e6, total / 1e6)
                yield block
    except HTTPError as error:
        error.close()  # it holds the connection
        raise _download_error(archive, path, str(error)) from error
    except (OSError, HTTPException) as error:
        raise _download_error(archive, path, str(getattr(error, "reason", error)) or type(error).__name__) from error
    if total and received < total:
        raise _download_error(archive, path, f"the connection ended after {received:,} of {total:,} bytes")


def _download_error(archive: Archive, path: Path, reason: str) -> HpoError:
    return HpoError(
        f"{path} is missing and could not be downloaded ({reason}); download {archive.url} yourself and save it there, "
        "or set `folder` or HPO_DATA to the folder that has it"
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time download to the folder, where folders can be locked."""
    handle = None
    with suppress(ImportError, OSError):  # Windows, some network file systems: each downloads to a temporary name
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _md5(path: Path) -> str:
    with path.open("rb") as file:  # against damage, not forgery: the pixels are only ever read as numbers
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
