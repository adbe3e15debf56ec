"""Share: the samples of every minibatch that one process computes, where several processes train one population.

Every process has all parameters, and a share of each minibatch. What depends on a share differs between processes;
parameters, losses, gradients and states are the same in all of them. Two maps lead from one kind of tensor to the
other: `spread`, from a tensor that is the same everywhere to one that is used with a share, and `total`, the sum over
the processes. Each is the transpose of the other, so that any function of both has the derivatives that one process
would compute from the whole minibatch, of any order, inside `torch.func` transforms as well.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from hpo.errors import HpoError, UsageError
from hpo.tree import Tree

log = logging.getLogger(__name__)

_LIBRARY = torch.library.Library("hpo", "DEF")
_LIBRARY.define("sum_over_processes(Tensor values) -> Tensor")


class LostProcess(HpoError):
    """Another process of the group has ended, does not answer, or does something else."""


class Share:
    """The samples rank, rank + count, rank + 2 count, … of each minibatch; by default all of them.

    Attributes:
        rank: this process's number, from 0. count: of processes. sums: how many sums this process has taken part in.
    """

    sums = 0  # of the whole process

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    def spread(self, tree: Tree) -> Tree:
        """The same leaves, for use with this process's samples; their gradient is summed over the processes."""
        return tree if self.count == 1 else dict(zip(tree, _Spread.apply(*tree.values()), strict=True))

    def total(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The sums of tensors over the processes, by one exchange; all of one dtype."""
        return values if self.count == 1 else _Total.apply(*values)

    def mean(self, tree: Tree) -> Tree:
        """The means of leaves over the processes."""
        if self.count == 1:
            return tree
        return {name: total / self.count for name, total in zip(tree, self.total(*tree.values()), strict=True)}

    def gather(self, values: Tensor) -> Tensor:
        """Values of all samples [N, ...], in their order, from those of this process's [n, ...]."""
        if self.count == 1:
            return values
        if values.dtype == torch.bool:
            return self.gather(values.to(torch.uint8)).bool()
        slots = [values if rank == self.rank else torch.zeros_like(values) for rank in range(self.count)]
        return self.total(torch.stack(slots, 1))[0].flatten(0, 1)

    def own(self, values: Tensor) -> Tensor:
        """Values of this process's samples [n, ...] from those of all [N, ...]."""
        return values if self.count == 1 else self.spread({"": values})[""][self.rank :: self.count]

    def own_part(self, samples: slice, count: int) -> slice:
        """Which of this process's samples a slice of a minibatch of so many chooses.

        Raises:
            UsageError: the processes cannot share them equally.
        """
        if self.count == 1:
            return samples
        chosen = range(count)[samples]
        if chosen.step != 1 or chosen.start % self.count or len(chosen) % self.count:
            raise UsageError(
                f"{self.count} processes cannot share the samples that {samples} chooses from a minibatch equally; "
                f"choose neighbours, from a multiple of {self.count} to another one, or train with one process"
            )
        return slice(chosen.start // self.count, chosen.stop // self.count)

    def columns(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """This process's share of a set to evaluate: indices [n] into its samples, and weights [n] of 0 for padding."""
        columns = torch.arange(self.rank, -(-count // self.count) * self.count, self.count, device=device)
        return columns.clamp(max=count - 1), columns < count

    def differences(self, tree: Tree) -> list[str]:
        """The names of leaves that are not bitwise equal in all processes."""
        if self.count == 1:
            return []
        digests = torch.stack([_digest(leaf) for leaf in tree.values()])
        others = self.total(digests if self.rank == 0 else torch.zeros_like(digests))[0]
        wrong = self.total((digests != others).to(torch.int64))[0].tolist()
        return [name for name, number in zip(tree, wrong, strict=True) if number]


def _digest(leaf: Tensor) -> Tensor:
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    real = torch.view_as_real(leaf) if leaf.is_complex() else leaf
    return real.detach().contiguous().view(integers[real.element_size()]).sum(dtype=torch.int64)


class _Total(Function):
    """The sum of each tensor over the processes."""

    @staticmethod
    def forward(*values: Tensor) -> tuple[Tensor, ...]:
        flat = torch.cat([value.reshape(-1) for value in values])
        parts = torch.ops.hpo.sum_over_processes(flat).split([value.numel() for value in values])
        return tuple(part.view(value.shape) for part, value in zip(parts, values, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep: the map is linear."""

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Any:
        return _Spread.apply(*gradients)

    @staticmethod
    def jvp(_ctx: Any, *tangents: Tensor) -> Any:
        return _Total.apply(*tangents)

    @staticmethod
    def vmap(_info: Any, in_dims: Sequence[int | None], *values: Tensor) -> Any:
        return _Total.apply(*values), in_dims


class _Spread(Function):
    """Each tensor as it is; its gradients are summed over the processes, where they follow from different samples."""

    @staticmethod
    def forward(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(value.view_as(value) for value in values)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep: the map is linear."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        needed = [gradient for gradient, need in zip(gradients, ctx.needs_input_grad, strict=True) if need]
        totals = iter(_Total.apply(*needed))
        return tuple(next(totals) if need else None for need in ctx.needs_input_grad)

    @staticmethod
    def jvp(_ctx: Any, *tangents: Tensor) -> Any:
        return _Spread.apply(*tangents)

    @staticmethod
    def vmap(_info: Any, in_dims: Sequence[int | None], *values: Tensor) -> Any:
        return _Spread.apply(*values), in_dims


def _sum_over_processes(values: Tensor) -> Tensor:
    total = values.clone()
    exchange(lambda: dist.all_reduce(total))
    Share.sums += 1
    return total


def exchange(function: Callable[[], Any]) -> Any:
    """The result of a function that communicates with the other processes; raises LostProcess if that fails."""
    try:
        return function()
    except RuntimeError as error:
        log.info("an exchange failed: %s", error)
        raise LostProcess(
            "another process of the group has ended or does not answer; run the same command to resume"
        ) from error


# An operation of PyTorch's dispatcher, so that a recorded step contains it.
_LIBRARY.impl("sum_over_processes", _sum_over_processes, "CompositeExplicitAutograd")
