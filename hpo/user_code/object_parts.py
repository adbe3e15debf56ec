"""The parts of an object: entries of containers, wrapped objects and attributes of instances."""

import argparse
import configparser
import functools
import types
from collections import ChainMap, UserDict, UserList, deque
from contextlib import suppress
from typing import Any

import numpy as np
from torch import nn

MAX_ENTRIES = 64  # a longer container of plain values is compared as one value
PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None), type(...)})
HOLDERS = (types.SimpleNamespace, argparse.Namespace, configparser.RawConfigParser, ChainMap, UserDict, UserList)
_ARRAY_LIKE = ("scipy.sparse", "scipy.interpolate", "numpy.polynomial")
FUNCTIONS = (types.FunctionType, property, staticmethod, classmethod, functools.cached_property)

Parts = list[tuple[str, Any]]  # (rest of the path, part)

_WRAPPERS: dict[type, tuple[str, ...]] = {
    types.MethodType: ("__self__", "__func__"),
    property: ("fget", "fset", "fdel"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    functools.cached_property: ("func",),
    functools.partialmethod: ("func",),
    type(functools.cache(len)): ("__wrapped__",),
}
# PyTorch gives these to every module; they matter only where user code filled them.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def has_attributes(kind: type) -> bool:
    """Whether the attributes of a library's class determine its instances."""
    return issubclass(kind, (nn.Module, np.poly1d, *HOLDERS)) or kind.__module__.startswith(_ARRAY_LIKE)


def entries(value: Any) -> Parts:
    """The entries of a container; without plain values if it is long."""
    parts: Parts = []
    kind = type(value)  # `isinstance` would call code of the object
    if issubclass(kind, dict | types.MappingProxyType):
        pairs = list(dict.items(value) if issubclass(kind, dict) else value.items())
        parts = [(f"[{_key(key, index)}]", entry) for index, (key, entry) in enumerate(pairs)]
        parts += [(f"[key {index}]", key) for index, (key, _) in enumerate(pairs) if type(key) not in PLAIN]
    elif issubclass(kind, set | frozenset):
        ordered = sorted(value, key=lambda entry: (type(entry).__name__, _key(entry, 0)))
        parts = [(f"{{{_key(entry, index)}}}", entry) for index, entry in enumerate(ordered)]
    elif issubclass(kind, tuple | list | deque):
        fields = getattr(kind, "_fields", ())
        named = len(fields) == len(value) and issubclass(kind, tuple)
        parts = [(f".{fields[index]}" if named else f"[{index}]", entry) for index, entry in enumerate(value)]
    elif issubclass(kind, np.ndarray) and value.dtype == object:
        parts = [(f"[{index}]", entry) for index, entry in enumerate(value.ravel().tolist())]
    if len(parts) > MAX_ENTRIES:
        return [(label, entry) for label, entry in parts if type(entry) not in PLAIN]
    return parts


def wrapped(value: Any) -> Parts:
    """The functions, objects and arguments behind methods, partials, properties and decorated functions."""
    if issubclass(type(value), functools.partial):
        arguments = {f"argument {index}": argument for index, argument in enumerate(value.args, 1)} | value.keywords
        return [(".func", value.func), *((f": {name}", argument) for name, argument in arguments.items())]
    if issubclass(type(value), types.BuiltinMethodType | types.MethodWrapperType):  # such as a generator's random()
        return [] if isinstance(value.__self__, types.ModuleType | None) else [(".__self__", value.__self__)]
    names = next((_WRAPPERS[wrapper] for wrapper in _WRAPPERS if issubclass(type(value), wrapper)), ())
    behind = [(f".{name}", getattr(value, name)) for name in names]
    return [(label, part) for label, part in behind if part is not None]


def attributes(value: Any) -> Parts:
    """An instance's attributes; those of a module by the names that PyTorch gives them."""
    values: dict[str, Any] = {}
    with suppress(AttributeError):  # there is no __dict__
        values |= object.__getattribute__(value, "__dict__")
    for kind in type(value).__mro__:
        for name, slot in vars(kind).items() if "__slots__" in vars(kind) else ():
            if isinstance(slot, types.MemberDescriptorType):
                with suppress(AttributeError):  # not set
                    values[name] = slot.__get__(value)
    result: Parts = []
    if issubclass(type(value), nn.Module):
        for registry in ("_parameters", "_buffers", "_modules"):
            result += [(f".{name}", entry) for name, entry in values.pop(registry, {}).items() if entry is not None]
        for name in _OF_EVERY_MODULE - {"training"}:
            if not values.get(name, True):
                del values[name]
            elif isinstance(values.get(name), dict):  # of hooks, keyed by a counter of the process
                values[name] = list(values[name].values())
    for name, field in getattr(type(value), "__dataclass_fields__", {}).items():
        if field.metadata.get("described", True) is False:
            values.pop(name, None)
    return result + [(f".{name}", entry) for name, entry in values.items()]


def _key(key: Any, index: int) -> str:
    """A key or a member of a set as part of a path; its index where its text differs between processes."""
    if type(key) in PLAIN or (type(key) is tuple and all(type(entry) in PLAIN for entry in key)):
        return repr(key)
    return str(getattr(key, "__qualname__", index)) if isinstance(key, type | types.FunctionType) else str(index)
