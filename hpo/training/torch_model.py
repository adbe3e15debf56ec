"""The optimizers of one model that are written for PyTorch, and its parameters, which are views of a stack."""

import functools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from hpo.errors import UsageError
from hpo.optim.torch_arguments import RATE, TORCH_RATE
from hpo.training.torch_instances import Builder, Closure, Setting, switch
from hpo.training.update_types import UnsavableState
from hpo.tree import Tree

PLAIN = int | float | bool | str | torch.dtype | Tensor | None
CONTAINERS = (dict, OrderedDict, list, tuple)  # with PLAIN, what `torch.load` reads with weights_only


class TorchModel:
    """The optimizers of one model and its parameters, views of rows of the stack."""

    def __init__(self, builder: Builder, row: Tree, setting: Setting, takes_closure: Sequence[bool]) -> None:
        self.name, self._takes_closure = builder.name, takes_closure
        self.parameters = {name: nn.Parameter(leaf) for name, leaf in row.items()}
        self._leaves = list(self.parameters.values())
        self.rebind(row)
        self.optimizers = builder.build(self.parameters, setting)
        self._unscheduled = [[dict(group) for group in optimizer.param_groups] for optimizer in self.optimizers]
        self._hyperparameters = builder.optimizer.hyperparameters.keys()

    def rebind(self, row: Tree) -> None:
        """Makes these tensors the parameters' memory."""
        for parameter, leaf in zip(self._leaves, row.values(), strict=True):
            parameter.data, parameter.grad = leaf, None
        self._addresses = [leaf.data_ptr() for leaf in row.values()]

    def is_in_stack(self) -> bool:
        """Whether the parameters still have the memory that `rebind` gave them."""
        return [parameter.data_ptr() for parameter in self._leaves] == self._addresses

    def set_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self._leaves, gradients, strict=True):
            parameter.grad = gradient

    def step(self, closure: Closure) -> None:
        for optimizer, takes_closure in zip(self.optimizers, self._takes_closure, strict=True):
            optimizer.step(closure) if takes_closure else optimizer.step()

    def switch(self, mode: str) -> None:
        for optimizer in self.optimizers:
            switch(optimizer, mode)

    def schedule(self, factors: Mapping[str, float]) -> None:
        """Multiplies hyperparameters of all parameter groups by factors, as PyTorch's schedulers do."""
        pairs = [
            pair
            for optimizer, unscheduled in zip(self.optimizers, self._unscheduled, strict=True)
            for pair in zip(optimizer.param_groups, unscheduled, strict=True)
        ]
        for name in factors.keys() & {*self._hyperparameters, RATE}:
            key = TORCH_RATE if name == RATE else name
            scheduled = [
                (group, value[key]) for group, value in pairs if isinstance(value.get(key), int | float | Tensor)
            ]
            if not scheduled and name != RATE:
                raise UsageError(f"{self.name} has no {name!r} in its parameter groups, so it cannot have a schedule")
            for group, value in scheduled:
                group[key] = value * factors[name]

    def saved(self) -> list[dict[str, Any]]:
        """Of each instance its state_dict and its own attributes that are plain values.

        Raises:
            UnsavableState: the state_dict holds other things than tensors, numbers and texts in lists and dicts.
        """
        saved = []
        for optimizer in self.optimizers:
            state = tree_map(_to_cpu, optimizer.state_dict())
            for leaf in tree_leaves(state, is_leaf=lambda node: type(node) not in CONTAINERS):
                if not isinstance(leaf, PLAIN):
                    raise UnsavableState(
                        f"the state_dict of {self.name} has an entry of the type {type(leaf).__name__}"
                    )
            saved.append({"state": state, "attributes": tree_map(_to_cpu, _attributes(optimizer))})
        return saved

    def load(self, saved: Sequence[Mapping[str, Any]]) -> None:
        for optimizer, each in zip(self.optimizers, saved, strict=True):
            state = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, each["state"])
            optimizer.load_state_dict(state)
            _restore_dtypes(optimizer, state)
            for name, value in each["attributes"].items():
                like = getattr(optimizer, name, None)
                device = like.device if isinstance(like, Tensor) else None
                setattr(optimizer, name, value.to(device, copy=True) if isinstance(value, Tensor) else value)


def _to_cpu(leaf: Any) -> Any:
    return leaf.detach().to("cpu", copy=True) if isinstance(leaf, Tensor) else leaf


def _attributes(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer keeps outside its state_dict, as far as it is plain, such as its own count of steps."""
    return {
        name: value
        for name, value in vars(optimizer).items()
        if name not in _common_attributes() and isinstance(value, PLAIN)
    }


def _restore_dtypes(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restores the dtypes of the state: `load_state_dict` casts all tensors to the dtype of their parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entries in state.get("state", {}).items():
        if not isinstance(entries, dict) or index not in range(len(parameters)):
            continue
        loaded = optimizer.state[parameters[index]]
        for name, value in entries.items():
            other = loaded.get(name)
            if isinstance(value, Tensor) and isinstance(other, Tensor) and value.dtype != other.dtype:
                loaded[name] = value.to(other.device)


@functools.cache
def _common_attributes() -> frozenset[str]:
    """The attributes of every optimizer; making one imports PyTorch's compiler, which takes a second."""
    return frozenset(vars(torch.optim.SGD([torch.zeros(1)])))
