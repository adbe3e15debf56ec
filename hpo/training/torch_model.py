"""The optimizers of one model that are written for PyTorch, and its parameters, which are views of a stack."""

import functools
import types
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
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
CODE = type | types.FunctionType | types.BuiltinFunctionType | types.MethodType | types.ModuleType | partial
CONSTANT = CODE | str | torch.device | None


class TorchModel:
    """The optimizers of one model and its parameters, views of rows of the stack."""

    def __init__(self, builder: Builder, row: Tree, setting: Setting, takes_closure: Sequence[bool]) -> None:
        self.name, self._takes_closure = builder.name, takes_closure
        self.parameters = {name: nn.Parameter(leaf) for name, leaf in row.items()}
        self._leaves = list(self.parameters.values())
        self.rebind(row)
        self.optimizers = builder.build(self.parameters, setting)
        self._instances = _instances(self.optimizers)
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
        """Raises UsageError where a step needs its closure, and the first ones did not."""
        for optimizer, takes_closure in zip(self.optimizers, self._takes_closure, strict=True):
            try:
                optimizer.step(closure) if takes_closure else optimizer.step()
            except TypeError as error:
                if takes_closure or "'NoneType' object is not callable" not in str(error):
                    raise
                raise UsageError(
                    f"{self.name} calls its closure, but not in its first steps, so that it gets none; make it a "
                    "required argument: def step(self, closure)"
                ) from error

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
        """Of each instance its state_dict and its own attributes.

        Raises:
            UnsavableState: they hold other things than tensors, numbers and texts in lists and dicts, or parameters.
        """
        saved, ids = [], {id(parameter) for parameter in self._leaves}
        for optimizer in self._instances:
            state = optimizer.state_dict()
            for entry in _unsavable(state, ids):
                raise UnsavableState(f"the state_dict of {self.name} has an entry of the type {type(entry).__name__}")
            attributes = self._attributes(optimizer, ids)
            saved.append({"state": tree_map(_to_cpu, state), "attributes": tree_map(_to_cpu, attributes)})
        return saved

    def load(self, saved: Sequence[Mapping[str, Any]]) -> None:
        kept = [
            (optimizer, name, vars(optimizer)[name])
            for optimizer in self._instances
            for name in ("param_groups", "state")
            if name in vars(optimizer)
        ]
        for optimizer, each in zip(self._instances, saved, strict=True):
            state = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, each["state"])
            optimizer.load_state_dict(state)
            _restore_dtypes(optimizer, state)
            for name, value in each["attributes"].items():
                like = getattr(optimizer, name, None)
                device = (like if isinstance(like, Tensor) else self._leaves[0]).device
                setattr(optimizer, name, tree_map(partial(_to_device, device), value))
        for optimizer, name, container in kept:
            _keep_container(optimizer, name, container)

    def _attributes(self, optimizer: torch.optim.Optimizer, ids: Collection[int]) -> dict[str, Any]:
        """What an optimizer keeps outside its state_dict and does not get when it is built."""
        own = {name: value for name, value in vars(optimizer).items() if name not in _common_attributes()}
        saved = {name: value for name, value in own.items() if not list(_unsavable(value, ids))}
        for name in own.keys() - saved.keys():
            for leaf in tree_leaves(own[name]):
                is_rebuilt = id(leaf) in ids or any(leaf is each for each in self._instances)
                if not is_rebuilt and not isinstance(leaf, CONSTANT):
                    raise UnsavableState(f"{self.name} has an attribute {name!r} with a {type(leaf).__name__}")
        return saved


def _instances(optimizers: Sequence[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """Optimizers and those among their attributes, such as the one that makes SAM's second step."""
    instances = list(optimizers)
    for optimizer in instances:  # which grows
        for leaf in tree_leaves(list(vars(optimizer).values())):
            if isinstance(leaf, torch.optim.Optimizer) and leaf not in instances:
                instances.append(leaf)
    return instances


def _to_cpu(leaf: Any) -> Any:
    return _to_device(torch.device("cpu"), leaf)


def _to_device(device: torch.device, leaf: Any) -> Any:
    return leaf.detach().to(device, copy=True) if isinstance(leaf, Tensor) else leaf


def _unsavable(value: Any, ids: Collection[int]) -> Iterator[Any]:
    """What a checkpoint cannot hold of a value: parameters, and the ids of some, are others when a run resumes."""
    if type(value) in CONTAINERS:
        for each in (*value, *(value.values() if isinstance(value, dict) else ())):
            yield from _unsavable(each, ids)
    elif not isinstance(value, PLAIN) or id(value) in ids or (isinstance(value, int) and value in ids):
        yield value


def _keep_container(optimizer: torch.optim.Optimizer, name: str, container: Any) -> None:
    """Puts what was loaded into the container from before, which several optimizers may share, as in SAM."""
    loaded = getattr(optimizer, name)
    pairs = zip(container, loaded, strict=True) if isinstance(container, list) else [(container, loaded)]
    for old, new in [(old, dict(new)) for old, new in pairs]:
        old.clear()
        old.update(new)
    setattr(optimizer, name, container)


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
