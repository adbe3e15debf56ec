"""Keeps PyTorch's compiler unloaded until it is used: importing it takes as long as PyTorch itself, and 70 MB.

PyTorch 2.13 loads it in `torch.func.grad` and in dispatch modes, only to switch it off there. Code that uses the
compiler is not affected: the first use of anything else in it loads it as usual.
"""

import contextlib
import importlib
import sys
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

COMPILER = "torch._dynamo"


class DispatchMode(TorchDispatchMode):
    """Base class of a mode that sees every operation on tensors, without loading the compiler."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch then does not tell the compiler about the mode


class _LazyModule:
    """A placeholder that loads its module for any attribute except those given."""

    def __init__(self, module: str, **attributes: Any) -> None:
        self._module = module
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._module), name)


def _disable_compiled_autograd() -> Any:
    """A context without compiled autograd, which is off anyway until its module is loaded."""
    module = sys.modules.get(f"{COMPILER}.compiled_autograd")
    return module._disable() if module else contextlib.nullcontext()


if COMPILER not in sys.modules:  # importing the compiler replaces the placeholder
    _autograd = _LazyModule(f"{COMPILER}.compiled_autograd", _disable=_disable_compiled_autograd)
    setattr(torch, COMPILER.split(".")[1], _LazyModule(COMPILER, compiled_autograd=_autograd))
