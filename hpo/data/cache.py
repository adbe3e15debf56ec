"""The folders of generated and downloaded data sets."""

import os
from pathlib import Path

from hpo.errors import UsageError


def cache_folder() -> Path:
    """`HPO_CACHE`, else the user's cache folder."""
    if chosen := os.environ.get("HPO_CACHE"):
        return _expanded(chosen)
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hpo"


def data_folder(named: str | os.PathLike[str] | None) -> Path:
    """The folder of a published archive: the one that a data set names, else `HPO_DATA`, else the cache."""
    chosen = named or os.environ.get("HPO_DATA")
    return _expanded(chosen) if chosen else cache_folder()


def _expanded(folder: str | os.PathLike[str]) -> Path:
    """With the home folder instead of ~.

    Raises:
        UsageError: there is no such home, as for a user id without an account where HOME is not set.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{folder} needs a home folder, and there is none; set HPO_CACHE to a writable folder"
        ) from error
