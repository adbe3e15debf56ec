"""The user's modules that a study reaches: by import, inside functions too, and by what its variables come from."""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from hpo.study.syntax import identifiers, parse
from hpo.user_code.ownership import is_user_code, is_user_file

MAX_NOT_IMPORTED = 200  # modules that nothing has imported yet: a library under development may have thousands


class UserModule(NamedTuple):
    """A module of the user.

    Attributes:
        name: its full name, such as "lab.parts". file: its file.
        tree: its syntax tree; None where it is not Python, such as a compiled extension.
        variables: its variables; empty where nothing has imported it yet.
        uses: the names of modules that it may import, or that its variables come from.
    """

    name: str
    file: Path
    tree: ast.Module | None
    variables: dict[str, Any]
    uses: frozenset[str] = frozenset()


class _Imported(NamedTuple):
    """A module as it was when a study that reaches it was loaded; `module` is None if nothing had imported it yet."""

    module: ModuleType | None
    file: Path
    contents: str
    uses: frozenset[str]


_imported: dict[str, dict[str, _Imported]] = {}  # module of a study file → name → what it reached


def user_modules(start: Iterable[Any]) -> dict[str, UserModule]:
    """The user's modules that define the given modules, functions and classes, and all that those import, by name.

    What is only imported inside a function is found as well, without importing it.
    """
    found: dict[str, UserModule] = {}
    waiting = {name for value in start for name in _module_of(value)}
    seen: set[str] = set()
    not_imported = 0
    while waiting:  # breadth first and by name, so that the limit selects the same modules everywhere
        seen |= waiting
        modules = [module for module in map(_locate, sorted(waiting)) if module is not None]
        waiting = set()
        for module in modules:
            not_imported += not module.variables
            if module.variables or not_imported <= MAX_NOT_IMPORTED:
                sources = (name for value in module.variables.values() for name in _module_of(value))
                uses = frozenset((*_imports(module), *sources))
                found[module.name] = module._replace(uses=uses)
                waiting |= uses
        waiting -= seen
    return found


def remember_imports(study_module: ModuleType) -> None:
    """Remembers which modules of the user a study file has imported, and what their files contain."""
    _imported[study_module.__name__] = {
        name: _Imported(sys.modules.get(name), module.file, _contents(module.file), module.uses)
        for name, module in user_modules([study_module]).items()
    }


def changed_files(study_module: str) -> list[Path]:
    """The files of a study and of the user's modules that it imports that have changed since it was loaded."""
    return [each.file for each in _imported.get(study_module, {}).values() if _contents(each.file) != each.contents]


def forget_changed_modules() -> None:
    """Makes Python import the user's modules again whose file has changed, and those that import these.

    The others stay: some can be imported only once, as one that registers an operator with PyTorch.
    """
    present = {
        name: each
        for modules in _imported.values()
        for name, each in modules.items()
        if name in sys.modules.keys() - {*_imported, "__main__"} and each.module in (None, sys.modules[name])
    }
    changed = {name for name, each in present.items() if _contents(each.file) != each.contents}
    outdated: set[str] = set()
    while changed - outdated:
        outdated |= changed
        changed = {name for name, each in present.items() if (each.uses | set(_packages(name))) & outdated}
    for name in outdated:
        module = sys.modules.pop(name)
        package, _, attribute = name.rpartition(".")
        if getattr(sys.modules.get(package), attribute, None) is module:
            delattr(sys.modules[package], attribute)  # where `from package import module` would find it


def _packages(name: str) -> list[str]:
    """The packages around a module: a module that stays would be missing in a package that is imported again."""
    return list(accumulate(name.split(".")[:-1], "{}.{}".format))


def _contents(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _module_of(value: Any) -> Iterator[str]:
    """The name of the user's module that a variable's value is, or is defined in."""
    if issubclass(type(value), ModuleType | type | FunctionType) and is_user_code(value):
        yield value.__name__ if issubclass(type(value), ModuleType) else str(value.__module__)


def _locate(name: str) -> UserModule | None:
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None) if module else _find_file(name)
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


def _find_file(name: str) -> str | None:
    """The file of a module that is not imported yet; `importlib.util.find_spec` would import its packages."""
    package, *rest = name.split(".")
    if package in sys.stdlib_module_names:
        return None
    spec = PathFinder.find_spec(package)
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        package = f"{package}.{part}"
        spec = PathFinder.find_spec(package, spec.submodule_search_locations)
    return spec.origin if spec else None


def _imports(module: UserModule) -> list[str]:
    """The names of all modules that a module may import: `from a import b` may mean the module a.b."""
    names: list[str] = []
    for node in ast.walk(module.tree) if module.tree else ():
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names += [base, *(f"{base}{'.' * bool(node.module)}{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and identifiers(node.func) & {"import_module", "__import__"}:
            arguments = [entry.value for entry in node.args[:1] if isinstance(entry, ast.Constant)]
            names += [name for name in arguments if isinstance(name, str)]
    package = module.name if module.file.name == "__init__.py" else module.name.rpartition(".")[0]
    modules: dict[str, None] = {}
    for name in names:
        with suppress(ImportError):  # it has more dots than there are packages
            # Importing a.b.c imports the packages a and a.b as well.
            modules |= dict.fromkeys(accumulate(resolve_name(name, package).split("."), "{}.{}".format))
    return [name for name in modules if name and name.split(".")[0] not in ("hpo", "torch")]
