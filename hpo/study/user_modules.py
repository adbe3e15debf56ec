"""The user's modules that a study reaches: by import, wherever it stands, and by what its variables come from."""

import ast
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from hpo.study.syntax import identifiers, parse
from hpo.user_code.ownership import is_user_code, is_user_file

MAX_LATE = 200  # modules that nothing has imported yet: of a library under development a whole tree is in reach


class UserModule(NamedTuple):
    """A module of the user.

    Attributes:
        name: its own, such as "lab.parts". file: where it stands.
        tree: its syntax tree; None where it is no Python, such as a compiled extension.
        variables: its variables; empty where nothing has imported it yet.
    """

    name: str
    file: Path
    tree: ast.Module | None
    variables: dict[str, Any]


def user_modules(start: Iterable[Any]) -> dict[str, UserModule]:
    """The user's modules that some modules, functions and classes come from, and all that those import, by name.

    What is imported inside a function only is found as well, without importing it.
    """
    found: dict[str, UserModule] = {}
    waiting = {name for thing in start for name in _home(thing)}
    seen: set[str] = set()
    late = 0
    while waiting:  # by rounds and names, so that a limit means the same modules everywhere
        seen |= waiting
        modules = [module for module in map(_locate, sorted(waiting)) if module is not None]
        waiting = set()
        for module in modules:
            late += not module.variables
            if module.variables or late <= MAX_LATE:
                found[module.name] = module
                waiting |= {*_imports(module), *(home for thing in module.variables.values() for home in _home(thing))}
        waiting -= seen
    return found


def _home(thing: Any) -> Iterator[str]:
    """The name of the user's module that a variable's value is, or comes from."""
    if issubclass(type(thing), ModuleType):
        if is_user_code(thing):
            yield thing.__name__
    elif issubclass(type(thing), type | FunctionType) and is_user_code(thing):
        yield str(thing.__module__)


def _locate(name: str) -> UserModule | None:
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None) if module else _find(name)
    if not isinstance(file, str) or not is_user_file(file):
        return None
    path = Path(file)
    try:
        tree = parse(path.read_bytes()) if path.suffix == ".py" or name == "__main__" else None
    except OSError:
        return None
    except (SyntaxError, ValueError, RecursionError):
        tree = None
    return UserModule(name, path, tree, dict(vars(module)) if module else {})


def _find(name: str) -> str | None:
    """The file of a module that is not imported yet, if it is the user's."""
    folders: Any = None
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names or parts[0] in sys.builtin_module_names:
        return None
    spec = None
    for place in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: place + 1]), folders)
        if spec is None:
            return None
        folders = spec.submodule_search_locations
        if folders is None and place < len(parts) - 1:
            return None
    return spec.origin if spec else None


def _imports(module: UserModule) -> list[str]:
    """The names of all modules that a module imports or may: `from a import b` may mean the module a.b."""
    names: list[str] = []
    for node in ast.walk(module.tree) if module.tree else ():
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node.level, node.module or "")
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and identifiers(node.func) & {"import_module", "__import__"}:
            written = [entry.value for entry in node.args[:1] if isinstance(entry, ast.Constant)]
            for name in (name for name in written if isinstance(name, str)):
                base = name.lstrip(".")
                names.append(_absolute(module, len(name) - len(base), base))
    whole = [".".join(parts[:end]) for parts in (name.split(".") for name in names) for end in range(1, len(parts) + 1)]
    return [name for name in dict.fromkeys(whole) if name and name.split(".")[0] not in ("hpo", "torch")]


def _absolute(module: UserModule, level: int, name: str) -> str:
    """What a module calls by a name after so many dots."""
    package = module.name.split(".") if level else []
    package = package[: len(package) - level + (module.file.name == "__init__.py")] if level else []
    return ".".join([*package, name] if name else package)
