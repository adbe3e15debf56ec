"""The folders of generated and downloaded data sets."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`HPO_CACHE`, else the user's cache folder."""
    if chosen := os.environ.get("HPO_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hpo"


def data_folder(named: str | os.PathLike[str] | None) -> Path:
    """The folder of a published archive: the one that a data set names, else `HPO_DATA`, else the cache."""
    chosen = named or os.environ.get("HPO_DATA")
    return Path(chosen).expanduser() if chosen else cache_folder()
