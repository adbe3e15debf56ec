"""TransformCache: results of passes, each valid inside one `torch.func` transform."""

from typing import Any

import torch
from torch import Tensor

from hpo.tree import Tree


class TransformCache:
    """The results of passes at one level of differentiation.

    Inside a user's `torch.func` transform it stores nothing: such tensors end with the transform.

    Attributes:
        first: (mean loss [], buffers afterwards) of the first pass. latest: the buffers after the latest pass, where
            every pass updates them.
    """

    def __init__(self, latest: Tree | None = None) -> None:
        self.first: tuple[Tensor, Tree] | None = None
        self.latest = latest
        self._level = _transform_level()
        # The parameters are held, so that no other tensors get their identity.
        self._entries: dict[Any, tuple[list[Tensor], Any]] = {}

    def get(self, kind: str, params: Tree, view: int | str) -> Any:
        """The stored value; None if there is none."""
        return self._entries.get((kind, view, _identity(params)), (params, None))[1]

    def keep(self, kind: str, params: Tree, view: int | str, value: Any) -> None:
        if self._level == _transform_level():
            self._entries[kind, view, _identity(params)] = (list(params.values()), value)

    def keep_losses(self, params: Tree, view: int | str, losses: Tensor, buffers: Tree | None = None) -> None:
        self.keep("losses", params, view, losses)
        if buffers is not None:
            self.keep_first((losses.mean(), buffers))

    def keep_first(self, first: tuple[Tensor, Tree] | None) -> None:
        if self._level == _transform_level():
            self.first = self.first or first

    def keep_latest(self, latest: Tree | None) -> None:
        if self._level == _transform_level():
            self.latest = latest


def _identity(params: Tree) -> Any:
    """Another value where the user's code has replaced a tensor in the dict, or has changed one in place."""
    if not isinstance(params, dict):  # refused when a pass begins
        return None
    return tuple((name, id(leaf), _versions(leaf)) for name, leaf in params.items())


def _versions(tensor: Tensor) -> tuple[int, ...]:
    """How often a tensor was changed in place, at each level of `torch.func` transforms."""
    versions, functorch = [tensor._version], torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
        versions.append(tensor._version)
    return tuple(versions)


def _transform_level() -> int | None:
    """How many `torch.func` transforms are active."""
    return torch._C._functorch.maybe_current_level()
