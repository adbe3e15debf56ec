"""Files that a person asked for: where they cannot be written, one sentence says so."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpo.errors import HpoError

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # raised by writes, which name no file


@contextmanager
def writing(path: Path, instead: str) -> Iterator[None]:
    """Turns what the system refuses while a file or folder, or files in the folder, are written into one sentence.

    Errors about any other file are defects of hpo and stay as they are.

    Args:
        instead: what the person may give or do, such as "give another --reports folder".

    Raises:
        HpoError: the system refuses.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_DISK and not _concerns(error, path):
            raise
        raise HpoError(f"{_refusal(error, path)}; {instead}") from error


def check_folder(folder: Path, instead: str) -> None:
    """Creates a folder if it is missing, and raises HpoError if files cannot be written into it."""
    with writing(folder, instead):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error is about `path`, something in it, or a folder on the way to it."""
    if not isinstance(error.filename, str | bytes):
        return False
    place, wanted = (Path(os.fsdecode(each)).absolute() for each in (error.filename, path))
    return place.is_relative_to(wanted) or wanted.is_relative_to(place)


def _refusal(error: OSError, path: Path) -> str:
    shown = Path(os.fsdecode(error.filename)) if error.filename else path
    if isinstance(error, FileExistsError | NotADirectoryError):
        in_the_way = next((each for each in (shown, *shown.parents) if each.is_file()), None)
        if in_the_way:
            return f"{in_the_way} is a file, and a folder is needed there"
    return f"{shown} cannot be {'created' if isinstance(error, FileNotFoundError) else 'written'} ({error.strerror})"
