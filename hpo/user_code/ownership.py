"""Distinguishes user code from the code of Python, installed packages, PyTorch and hpo."""

import functools
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import torch

_INSTALLED = {"site-packages", "dist-packages"}
_FOLDERS = tuple(
    f"{Path(folder).resolve()}/"
    for folder in {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        str(Path(torch.__file__).parent),
        str(Path(__file__).parents[1]),
    }
)


def is_user_code(thing: Any) -> bool:
    """Whether a function, method, class, module or code object, or the class of an instance, is the user's code.

    Everything is, unless its file belongs to the standard library, an installed package, PyTorch or hpo; code typed
    into an interpreter or a notebook has no file and is the user's.
    """
    if isinstance(thing, types.MethodType):
        thing = thing.__func__
    if isinstance(thing, types.FunctionType):
        return _is_users_file(thing.__code__.co_filename, str(thing.__globals__.get("__name__")))
    if isinstance(thing, types.CodeType):
        return _is_users_file(thing.co_filename, "")
    if isinstance(thing, types.ModuleType):
        return _is_users_module(thing.__name__)
    kind = thing if isinstance(thing, type) else type(thing)
    return _is_users_module(str(type.__getattribute__(kind, "__module__")))


def _is_users_file(file: str, module: str) -> bool:
    if file.startswith("<"):  # made by exec, as by dataclasses, or typed in
        return not file.startswith("<frozen") and _is_users_module(module)
    return is_user_file(file)


def _is_users_module(name: str) -> bool:
    root = name.partition(".")[0]
    if root in ("hpo", "torch", "builtins"):
        return False
    if name == "__main__":  # a script or an interpreter; hpo's start-up script defines nothing to be reached
        return True
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return is_user_file(file)
    if root in sys.stdlib_module_names:
        return False
    return all(map(is_user_file, getattr(module, "__path__", ())))  # a package without an __init__.py


@functools.cache
def is_user_file(file: str) -> bool:
    path = Path(file).resolve()
    return not (_INSTALLED & {*path.parts, *Path(file).parts} or f"{path}/".startswith(_FOLDERS))
