"""What is looked at in the first step of a population alone: defects that are there from the beginning."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils._pytree import keystr, tree_leaves_with_path

from hpo.errors import UsageError
from hpo.tree import Tree
from hpo.user_code.messages import warn_once


@contextmanager
def watched(who: str, given: Mapping[str, Any]) -> Iterator[None]:
    """Around code that is not to change in place what it is given.

    Args:
        given: trees of tensors by what the code knows them as, such as "params".

    Raises:
        UsageError: it has changed one of them.
    """
    leaves = tree_leaves_with_path(dict(given))
    versions = [leaf._version for _, leaf in leaves]
    try:
        yield
    finally:  # an error that it has led to says less
        for (path, leaf), version in zip(leaves, versions, strict=True):
            if leaf._version != version:
                place = f"{path[0].key}{keystr(path[1:])}"  # type: ignore[attr-defined]
                raise UsageError(f"{who} changes {place} in place; make a new tensor instead, as in x = x + 1")


def warn_of_defects(who: str, gradients: Tree, loss: Tensor) -> None:
    """Names what is no divergence: a gradient that is not finite where the loss is, or zero in all leaves and models.

    Args:
        gradients: leaves [K, ...] of the first step. loss: [K].
    """
    moves = False
    for leaf, gradient in gradients.items():
        rows = gradient.reshape(len(gradient), -1)  # of a parameter without axes as well
        if (~rows.isfinite().all(1) & loss.isfinite()).any():
            warn_once(f"{who} gives a gradient for {leaf!r} that is not finite in the first step; the run will diverge")
            return
        moves |= bool(rows.any())
    if not moves:
        warn_once(f"{who} gives a gradient that is zero for all parameters in the first step; is all detached?")
