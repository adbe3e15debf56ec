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
_MERGED = PLAIN | {tuple, frozenset}  # equal constants may be one object or several, as the compiler likes


def reachable(
    roots: Mapping[str, Any], limit: int = MAX_OBJECTS, late_imports: bool = True
) -> Iterator[tuple[str, Any]]:
    """Every object that user code reaches from the roots, with its shortest path, such as "grads: count[0]".

    Functions, classes and instances of the user's modules, modules of PyTorch, partials and containers are followed.
    Anything else, such as a tensor, a generator or a library's object, is yielded and not looked into. A plain value
    (a number, a string) and a tuple are yielded at every path, any other object once; the order is the same in every
    process. Left out are fields of dataclasses with metadata `{"described": False}`: a machine's affair.

    Args:
        roots: name -> object; the names begin the paths. limit: how many objects are yielded at most.
        late_imports: follow what functions import when they are called, if it is imported already.
    """
    seen: dict[int, Any] = {}  # holds the objects, so that no id is used twice
    queue = deque(roots.items())
    while queue and limit > 0:
        path, value = queue.popleft()
        if type(value) not in _MERGED:
            if id(value) in seen:
                continue
            seen[id(value)] = value
        limit -= 1
        yield path, value
        with suppress(Exception):  # a user's object may do anything when it is looked at
            queue.extend((path + label, part) for label, part in parts(value, late_imports))


def parts(value: Any, late_imports: bool = True) -> Parts:
    """What an object leads to directly, by how its path goes on; nothing for what is not looked into."""
    kind = type(value)
    if kind in PLAIN:
        return []
    if issubclass(kind, types.FunctionType):
        return _function(value, late_imports)
    if issubclass(kind, type):
        return _class(value) if is_user_code(value) else []
    found = entries(value) + wrapped(value)
    users = is_user_code(kind)
    if users or has_attributes(kind):
        found += attributes(value)
    return [*found, (f": {kind.__name__}", kind)] if users else found


def _function(function: types.FunctionType, late_imports: bool) -> Parts:
    """A function's variables; of a library's function only what it closes over, as a decorator does."""
    code, users = function.__code__, is_user_code(function)
    found: Parts = []
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # the variable has no value yet
            part = cell.cell_contents
            if users or type(part) not in PLAIN:  # how a library calls its variables is its own affair
                named = part if not users and issubclass(type(part), types.FunctionType | type) else None
                found.append((f": {getattr(named, '__name__', name)}", part))
    if not users:
        return found
    found += [(f".{name}", entry) for name, entry in vars(function).items()]
    arguments = reversed(code.co_varnames[: code.co_argcount])
    defaults = dict(zip(arguments, reversed(function.__defaults__ or ()), strict=False))
    defaults |= function.__kwdefaults__ or {}
    return found + _globals(function, late_imports) + [(f": {name}", default) for name, default in defaults.items()]


def _globals(function: types.FunctionType, late_imports: bool) -> Parts:
    """The global variables that a function's code names, and what it names of the user's modules among them."""
    names, space = _names(function.__code__), function.__globals__
    package = str(space.get("__package__") or "")
    found: Parts = []
    modules: list[tuple[str, Any]] = []
    for name in names:
        if name in space:
            found.append((f": {name}", space[name]))
        elif late_imports:
            modules += [(f": {name}", sys.modules.get(full)) for full in (name, f"{package}.{name}")]
    modules, seen = found + modules, set()
    while modules:
        path, module = modules.pop(0)
        if issubclass(type(module), types.ModuleType) and id(module) not in seen and is_user_code(module):
            seen.add(id(module))
            named = [(f"{path}.{name}", vars(module)[name]) for name in names if name in vars(module)]
            found += named
            modules += named
    return found


@functools.cache
def _names(code: types.CodeType) -> tuple[str, ...]:
    """The names of globals and attributes in a function's code, and in the functions and classes inside it."""
    names = dict.fromkeys(name for name in code.co_names if not _is_special(name))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= dict.fromkeys(_names(constant))
    return tuple(sorted(names))


def _class(users: type) -> Parts:
    """A class's attributes, methods, bases and the factories of its fields' defaults."""
    fields = vars(users).get("__dataclass_fields__", {})
    members = vars(users).get("_member_map_", {})  # of an enumeration, whose other entries are Python's
    held = {name: entry for name, entry in vars(users).items() if not (members and _is_special(name, 1))} | members
    found = []
    for name, entry in held.items():
        kind = type(entry)
        if name == "_abc_impl" or (_is_special(name) and not issubclass(kind, FUNCTIONS)):
            continue
        if not (issubclass(kind, types.FunctionType) and _is_generated(entry, bool(fields))):
            found.append((f".{name}", entry))
    for name, field in fields.items():
        if field.default_factory is not dataclasses.MISSING:
            found.append((f".{name}", field.default_factory))
    return found + [(f": {base.__name__}", base) for base in (*users.__bases__, type(users)) if is_user_code(base)]


def _is_generated(method: types.FunctionType, of_dataclass: bool) -> bool:
    """Whether a method was written by Python: by a dataclass, a named tuple or an enumeration."""
    made = of_dataclass and method.__code__.co_filename == "<string>"
    return (
        made
        or method.__name__.startswith("__annotate")
        or method.__globals__.get("__name__") in ("collections", "dataclasses", "enum", "reprlib")
    )


def _is_special(name: str, underscores: int = 2) -> bool:
    return name.startswith("_" * underscores) and name.endswith("_" * underscores)
