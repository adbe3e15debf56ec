"""Python's complaints about a study file, said so that a person knows what to write instead."""

import importlib
import inspect
import re
import traceback
from collections.abc import Mapping
from typing import Any

from hpo.errors import did_you_mean
from hpo.study.public_names import HOME_OF

UNKNOWN = re.compile(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'")
MISSING = re.compile(r"([\w.]+)\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)")


def explain(error: BaseException, known: Mapping[str, Any]) -> str:
    """What is wrong and what to write; "" where nothing better can be said than Python said.

    Args:
        known: the names that the file had at its disposal when it stopped.
    """
    text = str(error)
    if isinstance(error, TypeError):
        return _about_a_call(text, known)
    if isinstance(error, NameError) and error.name and _place(error) == known.get("__file__"):
        return _about_a_name(error.name, known)
    if isinstance(error, ImportError) and (found := re.match(r"cannot import name '(\w+)' from 'hpo'", text)):
        return f"hpo has no {found[1]!r}{did_you_mean(found[1], HOME_OF)}"
    if isinstance(error, AttributeError) and (found := re.match(r"module 'hpo' has no attribute '(\w+)'", text)):
        return f"hpo has no {found[1]!r}{did_you_mean(found[1], HOME_OF)}"
    return ""


def _about_a_call(text: str, known: Mapping[str, Any]) -> str:
    if found := UNKNOWN.search(text):
        function = found[1].removesuffix(".__init__").removesuffix(".__new__")
        takes = _arguments(function, known)
        hint = did_you_mean(found[2], takes) or (f"; it takes {', '.join(takes)}" if takes else "")
        return f"{function} takes no {found[2]!r}{hint}"
    if found := MISSING.search(text):
        function = found[1].removesuffix(".__init__").removesuffix(".__new__")
        return f"{function} lacks {found[2]}; add it (`hpo new` writes a complete file)"
    return ""


def _about_a_name(name: str, known: Mapping[str, Any]) -> str:
    if name in HOME_OF:
        return f"{name!r} is not imported; write `from hpo import {name}` at the top"
    return f"{name!r} is not defined{did_you_mean(name, [*known, *HOME_OF]) or '; define it above that line'}"


def _arguments(function: str, known: Mapping[str, Any]) -> list[str]:
    """The names that a function or class takes, looked up among the file's names and hpo's own."""
    candidates = [*known.values(), *([_from_hpo(function)] if function in HOME_OF else [])]
    for candidate in candidates:
        if callable(candidate) and getattr(candidate, "__qualname__", "") == function:
            return [name for name in inspect.signature(candidate).parameters if name != "self"]
    return []


def _place(error: BaseException) -> str | None:
    """The file whose line raised the error."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].filename if frames else None


def _from_hpo(name: str) -> Any:
    return getattr(importlib.import_module(HOME_OF[name]), name)
