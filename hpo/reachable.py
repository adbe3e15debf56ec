"""Everything that user code can reach from some objects: variables of functions, attributes, entries of containers."""

import dataclasses
import functools
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from hpo.users_code import is_users

MAX_OBJECTS = 50_000
MAX_ENTRIES = 64  # a longer container of plain values is one value: it is compared as a whole
PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None), type(...)})
Parts = list[tuple[str, Any]]

_FUNCTIONS = (types.FunctionType, property, staticmethod, classmethod, functools.cached_property)
_WRAPPERS: dict[type, tuple[str, ...]] = {
    types.MethodType: ("__self__", "__func__"),
    property: ("fget", "fset", "fdel"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    functools.cached_property: ("func",),
    functools.partialmethod: ("func",),
    type(functools.cache(len)): ("__wrapped__",),
}
# What PyTorch gives every module, of interest only where the user's code put something in.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def reachable(roots: Mapping[str, Any], limit: int = MAX_OBJECTS) -> Iterator[tuple[str, Any]]:
    """Every object that user code reaches from the roots, with its shortest path, such as "grads: count[0]".

    Functions, classes and instances of the user's modules, modules of PyTorch, partials and containers are followed.
    Anything else, such as a tensor, a generator or a library's object, is yielded and not looked into. A plain value
    (a number, a string) is yielded at every path, any other object once; the order is the same in every process.

    Args:
        roots: name -> object; the names begin the paths. limit: how many objects are yielded at most.
    """
    seen: dict[int, Any] = {}  # holds the objects, so that no id is used twice
    queue = deque(roots.items())
    while queue and limit > 0:
        path, value = queue.popleft()
        if type(value) not in PLAIN:
            if id(value) in seen:
                continue
            seen[id(value)] = value
        limit -= 1
        yield path, value
        queue.extend((path + label, part) for label, part in parts(value))


def parts(value: Any) -> Parts:
    """What an object leads to directly, by how its path goes on; nothing for what is not looked into."""
    kind = type(value)
    if kind in PLAIN:
        return []
    if issubclass(kind, types.FunctionType):
        return _function(value)
    if issubclass(kind, type):
        return _class(value) if is_users(value) else []
    found = _container(value) + _wrapper(value)
    users = is_users(kind)
    if users or issubclass(kind, nn.Module) or kind is types.SimpleNamespace:
        found += _attributes(value)
    return [*found, (f": {kind.__name__}", kind)] if users else found


def _function(function: types.FunctionType) -> Parts:
    """A function's variables; of a library's function only what it closes over, as a decorator does."""
    code = function.__code__
    found: Parts = []
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((f": {name}", cell.cell_contents))
        except ValueError:  # the variable has no value yet
            continue
    found += [(f".{name}", entry) for name, entry in vars(function).items()]
    if not is_users(function):
        return found
    arguments = reversed(code.co_varnames[: code.co_argcount])
    defaults = dict(zip(arguments, reversed(function.__defaults__ or ()), strict=False))
    defaults |= function.__kwdefaults__ or {}
    return found + _globals(function) + [(f": {name}", default) for name, default in defaults.items()]


def _globals(function: types.FunctionType) -> Parts:
    """The global variables that a function's code names, and what it names of the user's modules among them."""
    names, space = _names(function.__code__), function.__globals__
    package = str(space.get("__package__") or "")
    found: Parts = []
    modules: list[tuple[str, Any]] = []
    for name in names:
        if name in space:
            found.append((f": {name}", space[name]))
        else:  # imported inside the function
            modules += [(f": {name}", sys.modules.get(full)) for full in (name, f"{package}.{name}")]
    modules, seen = found + modules, set()
    while modules:
        path, module = modules.pop(0)
        if isinstance(module, types.ModuleType) and id(module) not in seen and is_users(module):
            seen.add(id(module))
            attributes = [(f"{path}.{name}", vars(module)[name]) for name in names if name in vars(module)]
            found += attributes
            modules += attributes
    return found


@functools.cache
def _names(code: types.CodeType) -> tuple[str, ...]:
    """The names of globals and attributes in a function's code, and in the functions and classes inside it."""
    names = dict.fromkeys(name for name in code.co_names if not _is_special(name))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= dict.fromkeys(_names(constant))
    return tuple(names)


def _class(users: type) -> Parts:
    """A class's attributes, methods, bases and the factories of its fields' defaults."""
    fields = vars(users).get("__dataclass_fields__", {})
    found = []
    for name, entry in vars(users).items():
        generated = fields and getattr(getattr(entry, "__code__", None), "co_filename", "") == "<string>"
        plain = not (_is_special(name) or name == "_abc_impl")
        if plain or (isinstance(entry, _FUNCTIONS) and not generated and not name.startswith("__annotate")):
            found.append((f".{name}", entry))
    for name, field in fields.items():
        if field.default_factory is not dataclasses.MISSING:
            found.append((f".{name}", field.default_factory))
    return found + [(f": {base.__name__}", base) for base in (*users.__bases__, type(users)) if is_users(base)]


def _container(value: Any) -> Parts:
    """The entries of a container; of a long one only what is no plain value."""
    entries: Parts = []
    if isinstance(value, dict | types.MappingProxyType):
        pairs = list(dict.items(value) if isinstance(value, dict) else value.items())
        entries = [(f"[{_key(key, place)}]", entry) for place, (key, entry) in enumerate(pairs)]
        entries += [(f"[key {place}]", key) for place, (key, _) in enumerate(pairs) if type(key) not in PLAIN]
    elif isinstance(value, set | frozenset):
        order = sorted(value, key=lambda entry: (type(entry).__name__, _key(entry, 0)))
        entries = [(f"{{{_key(entry, place)}}}", entry) for place, entry in enumerate(order)]
    elif isinstance(value, tuple | list | deque):
        fields = getattr(type(value), "_fields", ())
        named = len(fields) == len(value) and isinstance(value, tuple)
        entries = [(f".{fields[at]}" if named else f"[{at}]", entry) for at, entry in enumerate(value)]
    if len(entries) > MAX_ENTRIES:
        return [(label, entry) for label, entry in entries if type(entry) not in PLAIN]
    return entries


def _wrapper(value: Any) -> Parts:
    """The functions, objects and arguments behind methods, partials, properties and decorated functions."""
    if isinstance(value, functools.partial):
        arguments = {f"argument {place}": given for place, given in enumerate(value.args, 1)} | value.keywords
        return [(".func", value.func), *((f": {name}", given) for name, given in arguments.items())]
    wrapped = [
        (name, getattr(value, name)) for kind in _WRAPPERS if isinstance(value, kind) for name in _WRAPPERS[kind]
    ]
    return [(f".{name}", part) for name, part in wrapped if part is not None]


def _attributes(value: Any) -> Parts:
    """An instance's attributes; those of a module by the names that PyTorch gives them."""
    try:
        attributes = dict(object.__getattribute__(value, "__dict__"))
    except AttributeError:
        attributes = {}
    for kind in type(value).__mro__:
        for name, slot in vars(kind).items() if "__slots__" in vars(kind) else ():
            if isinstance(slot, types.MemberDescriptorType):
                try:
                    attributes[name] = slot.__get__(value)
                except AttributeError:  # not set
                    continue
    found: Parts = []
    if isinstance(value, nn.Module):
        for registry in ("_parameters", "_buffers", "_modules"):
            found += [(f".{name}", entry) for name, entry in attributes.pop(registry, {}).items() if entry is not None]
        for name in _OF_EVERY_MODULE - {"training"}:
            if not attributes.get(name, True):
                del attributes[name]
    return found + [(f".{name}", entry) for name, entry in attributes.items()]


def _key(key: Any, place: int) -> str:
    """What stands for a key or a member of a set in a path; its place where its words differ between processes."""
    if type(key) in PLAIN or (type(key) is tuple and all(type(entry) in PLAIN for entry in key)):
        return repr(key)
    return str(getattr(key, "__qualname__", place)) if isinstance(key, type | types.FunctionType) else str(place)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
