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
        # The parameters are held, so that no other dict gets their identity.
        self._entries: dict[tuple[str, int, int | str], tuple[Tree, Any]] = {}

    def get(self, kind: str, params: Tree, view: int | str) -> Any:
        """The stored value; None if there is none."""
        return self._entries.get((kind, id(params), view), (params, None))[1]

    def keep(self, kind: str, params: Tree, view: int | str, value: Any) -> None:
        if self._level == _transform_level():
            self._entries[kind, id(params), view] = (params, value)

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


def _transform_level() -> int | None:
    """How many `torch.func` transforms are active."""
    return torch._C._functorch.maybe_current_level()
