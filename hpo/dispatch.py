"""PyTorch's compiler stays unloaded until somebody compiles: its import takes as long as PyTorch's own, and 200 MB.

PyTorch 2.13 loads it in order to tell it to keep away, in `torch.func.grad` and in modes that see operations. Nothing
changes for code that does use it: the first use of anything else in it loads it as ever.
"""

import contextlib
import importlib
import sys
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

COMPILER = "torch._dynamo"


class DispatchMode(TorchDispatchMode):
    """A mode that sees every operation on tensors; to be derived from."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch's own word for a mode that the compiler need not be told about


class _Unloaded:
    """Stands where a module would, and loads it when it is asked for anything but what is known without it."""

    def __init__(self, module: str, **known: Any) -> None:
        self._module = module
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._module), name)


def _autograd_not_compiled() -> Any:
    """A context without compiled autograd; nothing can have switched it on before its module is loaded."""
    module = sys.modules.get(f"{COMPILER}.compiled_autograd")
    return module._disable() if module else contextlib.nullcontext()


def keep_unloaded() -> None:
    """Puts the stand-in into its place, which the import system gives back to the compiler when it is imported."""
    if COMPILER not in sys.modules:
        autograd = _Unloaded(f"{COMPILER}.compiled_autograd", _disable=_autograd_not_compiled)
        setattr(torch, COMPILER.split(".")[1], _Unloaded(COMPILER, compiled_autograd=autograd))


keep_unloaded()
