"""Environment variables and files that the user's functions read when they are called, as their code names them."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

MAX_FILE_BYTES = 2**26
_ENVIRONMENT = {"environ", "getenv"}
_READERS = {
    *("open", "read_text", "read_bytes", "load", "loads", "safe_load", "loadtxt", "genfromtxt", "fromfile"),
    *("read_csv", "read_json", "read_parquet", "run_path"),
}
_WRITERS = {"write", "writelines", "write_text", "write_bytes", "save", "savez", "savetxt", "dump", "writer", "to_csv"}
_WRITE_MODE = re.compile(r"[bt]?[wax][bt+]*|r[bt]?\+[bt]?")  # of `open`


def external_inputs(function: FunctionType) -> dict[str, str]:
    """The values of environment variables and the digests of files that a function names.

    The files of a function that writes are not inputs: it may keep a log. Files are searched in the folder of the
    function's own file and in the working directory.
    """
    codes = list(_nested_codes(function.__code__))
    names = {name for code in codes for name in code.co_names}
    texts = {constant for code in codes for constant in code.co_consts if isinstance(constant, str) and constant}
    inputs: dict[str, str] = {}
    if names & _ENVIRONMENT:
        inputs |= {f"environment variable {text}": os.environ[text] for text in texts if text in os.environ}
    if names & _READERS and not names & _WRITERS and not any(map(_WRITE_MODE.fullmatch, texts)):
        for text in texts:
            candidates = [folder / text for folder in (Path(function.__code__.co_filename).parent, Path())]
            for file in list(filter(_is_readable, candidates))[:1]:
                inputs[f"file {file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return inputs


def _nested_codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of all functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested_codes(constant)


def _is_readable(file: Path) -> bool:
    try:
        return file.is_file() and file.stat().st_size <= MAX_FILE_BYTES and os.access(file, os.R_OK)
    except (OSError, ValueError):  # the text is not a file name
        return False
