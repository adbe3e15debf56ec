"""The content of objects as text that is the same in every process and on every machine: no ids, no addresses."""

import array
import datetime
import decimal
import enum
import fractions
import hashlib
import operator
import re
from collections import deque
from collections.abc import Callable
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any

import numpy as np
import torch

from hpo.study.syntax import digest
from hpo.user_code.object_parts import MAX_ENTRIES, PLAIN

_DESCRIBED_BY_REPR = (
    range, slice, decimal.Decimal, fractions.Fraction, datetime.date, datetime.time, datetime.timedelta, re.Pattern,
    np.dtype, torch.dtype, operator.itemgetter, operator.attrgetter,
)  # fmt: skip
_CONTAINERS = (dict, MappingProxyType, list, tuple, deque, set, frozenset)
_DEVICE = re.compile(r"(cpu|cuda|mps)(:\d+)?")


def content(value: Any, module_label: Callable[[str], str]) -> str:
    """The content of an object; only its type where `reachable` follows its parts, since these have their own paths.

    An object whose content differs between processes (a file, a lock, a generator) is described by its kind.

    Args:
        module_label: module name -> the label that stands for it.
    """
    kind = type(value)
    try:
        if kind in PLAIN:
            return _plain(value)
        if issubclass(kind, torch.Tensor):
            return _tensor(value)
        if issubclass(kind, np.ndarray | np.generic) and value.dtype != object:
            return f"{value.dtype.str} {value.shape} {_bytes(np.ascontiguousarray(value).reshape(-1).view(np.uint8))}"
        if issubclass(kind, bytearray | memoryview | array.array):
            return f"{kind.__qualname__} {_bytes(value)}"
        if issubclass(kind, np.lib.npyio.NpzFile):
            return digest(*(f"{name} {content(value[name], module_label)}" for name in value.files))
        if issubclass(kind, type | FunctionType | BuiltinFunctionType):
            return f"{module_label(str(value.__module__))} {value.__qualname__}"
        if issubclass(kind, ModuleType):
            return f"module {module_label(value.__name__)}"
        if issubclass(kind, PurePath):
            return _plain(str(value))
        if kind.__module__.startswith("pandas.") and hasattr(value, "to_csv"):
            return f"{kind.__qualname__} {digest(value.to_csv())}"
        if issubclass(kind, _DESCRIBED_BY_REPR):
            return repr(value)
        if issubclass(kind, enum.Enum):
            return f"{module_label(kind.__module__)} {kind.__qualname__}.{value._name_}"
        container = value.ravel().tolist() if issubclass(kind, np.ndarray) else value  # an array of objects
        entries = _entries(container) if issubclass(type(container), _CONTAINERS) else ""
    except Exception:  # a user's object may raise anything when it is inspected
        entries = ""
    return f"{module_label(str(kind.__module__))} {kind.__qualname__} {entries}"


def code_content(code: CodeType, docstring: str | None = None) -> str:
    """A digest of the instructions and constants of a function without a source file."""
    constants = code.co_consts[docstring is not None and code.co_consts[:1] == (docstring,) :]
    texts = [code_content(entry) if isinstance(entry, CodeType) else _constant(entry) for entry in constants]
    return digest(code.co_code.hex(), repr(code.co_names), *texts)


def _constant(value: Any) -> str:
    if isinstance(value, tuple | frozenset):
        entries = [_constant(entry) for entry in value]
        return f"({','.join(entries if isinstance(value, tuple) else sorted(entries))})"
    return f"{type(value).__name__} {value!a}"


def _plain(value: Any) -> str:
    if type(value) is str:
        if value.startswith("/"):  # where a machine keeps its files
            return "path"
        if _DEVICE.fullmatch(value):
            return "device"
    return f"{type(value).__name__} {hex(value) if type(value) is int else ascii(value)}"


def _tensor(tensor: torch.Tensor) -> str:
    if tensor.layout != torch.strided:
        sparse = tensor.detach().to_sparse_coo().coalesce()
        return f"{tuple(tensor.shape)} {_tensor(sparse.indices())} {_tensor(sparse.values())}"
    flat = tensor.detach().cpu().contiguous().flatten()
    return f"{tensor.dtype} {tuple(tensor.shape)} {_bytes(flat.view(torch.uint8).numpy())}"


def _entries(container: Any) -> str:
    """The size of a container and, of a long one, its plain values, since these have no paths."""
    if len(container) <= MAX_ENTRIES:
        return str(len(container))
    if isinstance(container, dict | MappingProxyType):
        texts = sorted(f"{key!a} {_plain(entry)}" for key, entry in container.items() if type(entry) in PLAIN)
    else:
        texts = [_plain(entry) for entry in container if type(entry) in PLAIN]
    return digest(str(len(container)), *(sorted(texts) if isinstance(container, set | frozenset) else texts))


def _bytes(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
