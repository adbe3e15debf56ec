"""What the user's functions read while they run: environment variables and files that their code names."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

_VARIABLES = {"environ", "getenv"}
_READING = {
    *("open", "read_text", "read_bytes", "load", "loads", "safe_load", "loadtxt", "genfromtxt", "fromfile"),
    *("read_csv", "read_json", "read_parquet", "run_path"),
}
_WRITING = {"write", "writelines", "write_text", "write_bytes", "save", "savez", "savetxt", "dump", "writer", "to_csv"}
_WRITING_MODE = re.compile(r"[bt]?[wax][bt+]*|r[bt]?\+[bt]?")  # of `open`
_MOST_BYTES = 2**26


def read_in_calls(function: FunctionType) -> dict[str, str]:
    """Environment variables and files that a function names, with their values and digests.

    A function that writes names no files: it may keep a log. Files are looked for beside the function's own and in the
    working directory.
    """
    names, texts = set(_names(function.__code__)), set(_texts(function.__code__))
    found: dict[str, str] = {}
    if names & _VARIABLES:
        found |= {f"environment variable {text}": os.environ[text] for text in texts if text in os.environ}
    if names & _READING and not names & _WRITING and not any(map(_WRITING_MODE.fullmatch, texts)):
        for text in texts:
            places = (folder / text for folder in (Path(function.__code__.co_filename).parent, Path()))
            file = next(filter(_is_readable, places), None)
            if file is not None:
                found[f"file {file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return found


def _is_readable(file: Path) -> bool:
    try:
        return file.is_file() and file.stat().st_size <= _MOST_BYTES and os.access(file, os.R_OK)
    except (OSError, ValueError):  # no name of a file at all
        return False


def _inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inner(constant)


def _names(code: CodeType) -> Iterator[str]:
    for inner in _inner(code):
        yield from inner.co_names


def _texts(code: CodeType) -> Iterator[str]:
    for inner in _inner(code):
        yield from (constant for constant in inner.co_consts if isinstance(constant, str) and constant)
