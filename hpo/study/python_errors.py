"""Hints for Python errors in a study file: what a person has to write instead."""

import inspect
import re
import traceback
from collections.abc import Mapping
from typing import Any

from hpo.errors import did_you_mean
from hpo.study.public_names import PUBLIC_NAMES, load_public_name

UNKNOWN_ARGUMENT = re.compile(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'")
MISSING_ARGUMENT = re.compile(r"([\w.]+)\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)")
UNKNOWN_PUBLIC_NAME = re.compile(r"cannot import name '(\w+)' from 'hpo'|module 'hpo' has no attribute '(\w+)'")


def error_hint(error: BaseException, variables: Mapping[str, Any]) -> str:
    """One sentence that says what is wrong and what to write; "" where Python's own message says all that is known.

    Args:
        variables: the file's variables at the time of the error.
    """
    if isinstance(error, TypeError):
        return _call_hint(str(error), variables)
    if isinstance(error, NameError) and error.name:
        frames = traceback.extract_tb(error.__traceback__)
        return _name_hint(error.name, variables) if frames[-1].filename == variables.get("__file__") else ""
    if isinstance(error, ImportError | AttributeError) and (match := UNKNOWN_PUBLIC_NAME.match(str(error))):
        name = match[1] or match[2]
        return f"hpo has no {name!r}{did_you_mean(name, PUBLIC_NAMES)}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"there is no module {error.name!r}; install its package with pip, or correct the name"
    return ""


def _call_hint(message: str, variables: Mapping[str, Any]) -> str:
    unknown, missing = UNKNOWN_ARGUMENT.search(message), MISSING_ARGUMENT.search(message)
    if unknown:
        function = _without_constructor(unknown[1])
        arguments = _arguments(function, variables)
        alternatives = f"; it takes {', '.join(arguments)}" if arguments else ""
        return f"{function} takes no {unknown[2]!r}{did_you_mean(unknown[2], arguments) or alternatives}"
    if missing:
        return f"{_without_constructor(missing[1])} lacks {missing[2]}; add it (`hpo new` writes a complete file)"
    return ""


def _name_hint(name: str, variables: Mapping[str, Any]) -> str:
    if name in PUBLIC_NAMES:
        return f"{name!r} is not imported; write `from hpo import {name}` at the top"
    hint = did_you_mean(name, [*variables, *PUBLIC_NAMES]) or "; define it above that line"
    return f"{name!r} is not defined{hint}"


def _without_constructor(function: str) -> str:
    return function.removesuffix(".__init__").removesuffix(".__new__")


def _arguments(function: str, variables: Mapping[str, Any]) -> list[str]:
    """The arguments of a function or class that is a variable of the file or a public name of hpo."""
    candidates = [*variables.values(), *([load_public_name(function)] if function in PUBLIC_NAMES else [])]
    for candidate in candidates:
        if callable(candidate) and getattr(candidate, "__qualname__", "") == function:
            return [name for name in inspect.signature(candidate).parameters if name != "self"]
    return []
