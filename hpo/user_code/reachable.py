"""Everything that user code can reach from some objects: variables of functions, attributes, entries of containers."""

import dataclasses
import functools
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from hpo.user_code.object_parts import FUNCTIONS, PLAIN, Parts, attributes, entries, has_attributes, wrapped
from hpo.user_code.ownership import is_user_code

MAX_OBJECTS = 50_000
_MERGED = PLAIN | {tuple, frozenset}  # equal constants may be one object or several, as the compiler decides


def reachable(
    roots: Mapping[str, Any], limit: int = MAX_OBJECTS, late_imports: bool = True
) -> Iterator[tuple[str, Any]]:
    """Yields every object that user code reaches from the roots, with its shortest path, such as "grads: count[0]".

    Functions, classes and instances of the user's modules, modules of PyTorch, partials and containers are followed.
    Anything else, such as a tensor, a generator or a library's object, is yielded but not followed. A plain value
    (a number, a string) and a tuple are yielded at every path, any other object once; the order is the same in every
    process. Fields of dataclasses with metadata `{"described": False}`, which concern only the machine, are left out.

    Args:
        roots: name -> object; the names begin the paths. limit: the largest number of objects to yield.
        late_imports: whether to follow what functions import when they are called, if it is imported already.
    """
    seen: dict[int, Any] = {}  # holds the objects, so that no id is reused
    queue = deque(roots.items())
    while queue and limit > 0:
        path, value = queue.popleft()
        if type(value) not in _MERGED:
            if id(value) in seen:
                continue
            seen[id(value)] = value
        limit -= 1
        yield path, value
        with suppress(Exception):  # a user's object may raise anything when it is inspected
            queue.extend((path + label, part) for label, part in parts(value, late_imports))


def parts(value: Any, late_imports: bool = True) -> Parts:
    """What an object leads to directly, by the rest of its path; empty for what is not followed."""
    kind = type(value)
    if kind in PLAIN:
        return []
    if issubclass(kind, types.FunctionType):
        return _function(value, late_imports)
    if issubclass(kind, type):
        return _class(value) if is_user_code(value) else []
    is_users = is_user_code(kind)
    result = entries(value) + wrapped(value)
    if is_users or has_attributes(kind):
        result += attributes(value)
    return [*result, (f": {kind.__name__}", kind)] if is_users else result


def _function(function: types.FunctionType, late_imports: bool) -> Parts:
    """A function's variables; of a library's function only what it closes over, as a decorator does."""
    code, is_users = function.__code__, is_user_code(function)
    result: Parts = []
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # the variable has no value yet
            part = cell.cell_contents
            if is_users:
                result.append((f": {name}", part))
            elif type(part) not in PLAIN:  # a library's own variable names mean nothing to the user
                is_named = issubclass(type(part), types.FunctionType | type)
                result.append((f": {getattr(part, '__name__', name) if is_named else name}", part))
    if not is_users:
        return result
    result += [(f".{name}", entry) for name, entry in vars(function).items()]
    arguments = reversed(code.co_varnames[: code.co_argcount])
    defaults = dict(zip(arguments, reversed(function.__defaults__ or ()), strict=False))
    defaults |= function.__kwdefaults__ or {}
    return result + _globals(function, late_imports) + [(f": {name}", default) for name, default in defaults.items()]


def _globals(function: types.FunctionType, late_imports: bool) -> Parts:
    """The global variables that a function's code names, and what it names of the user's modules among them."""
    names, space = _names(function.__code__), function.__globals__
    package = str(space.get("__package__") or "")
    result: Parts = []
    queue: list[tuple[str, Any]] = []
    for name in names:
        if name in space:
            result.append((f": {name}", space[name]))
        elif late_imports:
            queue += [(f": {name}", sys.modules.get(module)) for module in (name, f"{package}.{name}")]
    queue, seen = result + queue, set()
    while queue:
        path, module = queue.pop(0)
        if issubclass(type(module), types.ModuleType) and id(module) not in seen and is_user_code(module):
            seen.add(id(module))
            members = [(f"{path}.{name}", vars(module)[name]) for name in names if name in vars(module)]
            result += members
            queue += members
    return result


@functools.cache
def _names(code: types.CodeType) -> tuple[str, ...]:
    """The names of globals and attributes in a function's code, and in the functions and classes inside it."""
    names = dict.fromkeys(name for name in code.co_names if not _is_special(name))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= dict.fromkeys(_names(constant))
    return tuple(sorted(names))


def _class(kind: type) -> Parts:
    """A class's attributes, methods, bases and the factories of its fields' defaults."""
    fields = vars(kind).get("__dataclass_fields__", {})
    members = vars(kind).get("_member_map_", {})  # of an enumeration, whose other entries are Python's
    entries_ = {name: entry for name, entry in vars(kind).items() if not (members and _is_special(name, 1))} | members
    result = []
    for name, entry in entries_.items():
        if name == "_abc_impl" or (_is_special(name) and not issubclass(type(entry), FUNCTIONS)):
            continue
        if not (issubclass(type(entry), types.FunctionType) and _is_generated(entry, bool(fields))):
            result.append((f".{name}", entry))
    for name, field in fields.items():
        if field.default_factory is not dataclasses.MISSING:
            result.append((f".{name}", field.default_factory))
    return result + [(f": {base.__name__}", base) for base in (*kind.__bases__, type(kind)) if is_user_code(base)]


def _is_generated(method: types.FunctionType, of_dataclass: bool) -> bool:
    """Whether Python wrote a method: for a dataclass, a named tuple or an enumeration."""
    return (
        (of_dataclass and method.__code__.co_filename == "<string>")
        or method.__name__.startswith("__annotate")
        or method.__globals__.get("__name__") in ("collections", "dataclasses", "enum", "reprlib")
    )


def _is_special(name: str, underscores: int = 2) -> bool:
    return name.startswith("_" * underscores) and name.endswith("_" * underscores)
