"""Which statements of the user's modules a part of a study can use, by the names that stand in them."""

import ast
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from hpo.study.import_effects import may_have_effects
from hpo.study.syntax import IMPORTS, defined_names, identifiers, top_level
from hpo.study.user_modules import UserModule
from hpo.user_code.ownership import is_user_code

# With these, code finds other code by names that are not written in it.
_DYNAMIC = {
    *("globals", "locals", "vars", "exec", "eval", "compile", "__import__", "import_module", "importlib", "modules"),
    *("__dict__", "__subclasses__", "__globals__", "__builtins__", "inspect", "gc", "pickle", "attrgetter", "ctypes"),
}
_BY_NAME = {"getattr", "setattr", "hasattr", "delattr", "methodcaller"}
SHARED = ""  # the user of what the data, network, loss, metrics or the import of a module may use

Place = tuple[str, str]  # a module and a name that one of its statements defines


def statement_users(modules: Mapping[str, UserModule], objects: Mapping[str, Iterable[Any]]) -> dict[Place, set[str]]:
    """The users of each statement that some user reaches; empty where that cannot be decided.

    A user reaches the statements that define its functions and classes, and those whose names stand in code that it
    reaches: as a variable, an attribute or a text, in any module. So more is reached than is used, and never less.
    What the import of a module may do concerns all users, and belongs to `SHARED` as everything that it reaches.

    Args:
        modules: the user's modules that the study reaches, by name.
        objects: user -> the functions, classes and other objects that it reaches.
    """
    if any(module.tree is None or _is_dynamic(module.tree) for module in modules.values()):
        return {}
    statements = [(name, each) for name, module in modules.items() if module.tree for each in top_level(module.tree)]
    graph, spans = _Graph(statements), {str(module.file): _spans(module) for module in modules.values()}
    reached: dict[Place, set[str]] = defaultdict(set)
    for user, values in objects.items():
        names: set[str] = set()
        for value in values:
            if not (issubclass(type(value), FunctionType | type) and is_user_code(value)):
                continue
            if value.__module__ not in modules:
                return {}
            names |= _names_of(value)
            for place in _around(value, spans):
                reached[place].add(user)
        for place in graph.reachable(names):
            reached[place].add(user)
    effects = [each for name, each in statements if may_have_effects(each, modules[name].variables)]
    for place in graph.reachable(set().union(*map(_mentioned, effects), *(defined_names(each) for each in effects))):
        reached[place].add(SHARED)
    return reached


class _Graph:
    """Which statements lead to which, by the names that stand in them."""

    def __init__(self, statements: Iterable[tuple[str, ast.stmt]]) -> None:
        self._places: dict[str, list[Place]] = defaultdict(list)  # of the statements that define a name
        self._mentions: dict[str, set[str]] = defaultdict(set)  # the names in the statements that define a name
        for module, statement in statements:
            names = defined_names(statement)
            for name in names:
                self._places[name].append((module, name))
            for name in imported_names(statement):
                self._places[name].append((module, import_label(name)))
            for name in {*names, *imported_names(statement)}:
                self._mentions[name] |= _mentioned(statement)

    def reachable(self, names: Iterable[str]) -> Iterator[Place]:
        """The places of everything that is reached from code with these names in it."""
        seen: set[str] = set()
        waiting = set(names)
        while waiting:
            seen |= waiting
            waiting = set().union(*(self._mentions[name] for name in waiting if name in self._mentions)) - seen
        for name in seen:
            yield from self._places.get(name, ())


def import_label(name: str) -> str:
    """What the variable that an import binds is called among the names of statements."""
    return f"{IMPORTS}: {name}"


def imported_names(statement: ast.stmt) -> list[str]:
    """The variables that an import binds; none where a statement is no import."""
    if not isinstance(statement, ast.Import | ast.ImportFrom):
        return []
    return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]


@functools.cache
def _mentioned(statement: ast.stmt) -> frozenset[str]:
    """Every name and text in a statement; of an import the names in its module."""
    names = identifiers(statement)
    for node in ast.walk(statement):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.update(node.value.split("."))
        elif isinstance(node, ast.alias):
            names.update(node.name.split("."))
    return frozenset(names)


def _names_of(value: Any) -> set[str]:
    """The names that lead on from a function or class: that of its statement, or those in its code if it has none."""
    outermost = str(value.__qualname__).partition(".")[0]
    own = _names_in(value.__code__) if isinstance(value, FunctionType) else set()
    return own if outermost == "<lambda>" else {outermost, value.__name__, *own}


def _spans(module: UserModule) -> list[tuple[int, int, list[Place]]]:
    """The first and last line of each statement, and its places."""
    spans = []
    for statement in top_level(module.tree) if module.tree else ():
        lines = [node.lineno for node in ast.walk(statement) if hasattr(node, "lineno")]  # none of a split import
        places = [(module.name, name) for name in defined_names(statement)]
        spans.append((min(lines, default=0), getattr(statement, "end_lineno", None) or 0, places))
    return spans


def _around(value: Any, spans: Mapping[str, list[tuple[int, int, list[Place]]]]) -> Iterator[Place]:
    """The places of the statement in which a function stands; a lambda and what decorators return have other names."""
    if issubclass(type(value), FunctionType):
        for first, last, places in spans.get(value.__code__.co_filename, ()):
            if first <= value.__code__.co_firstlineno <= last:
                yield from places


def _names_in(code: CodeType) -> set[str]:
    """The names and texts in a function's code, and in the functions inside it."""
    names = {*code.co_names, *code.co_freevars, *code.co_varnames}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
        elif isinstance(constant, str):
            names.update(constant.split("."))
        elif isinstance(constant, tuple):
            names.update(str(entry) for entry in constant)
    return names


def _is_dynamic(tree: ast.Module) -> bool:
    """Whether code may find other code by a name that is computed."""
    if any(alias.name == "*" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names):
        return True
    imported = {part for node in ast.walk(tree) if isinstance(node, ast.alias) for part in node.name.split(".")}
    if (identifiers(tree) | imported) & _DYNAMIC:
        return True
    constant = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
    }
    return any(
        isinstance(node, ast.Name | ast.Attribute)
        and getattr(node, "id", getattr(node, "attr", "")) in _BY_NAME
        and id(node) not in constant
        for node in ast.walk(tree)
    )
