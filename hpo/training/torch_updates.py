"""Updates by instances of a `torch.optim.Optimizer`, one per model, whose parameters are views of the stack."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from hpo.errors import UsageError
from hpo.optim.parameter_groups import ParameterGroup
from hpo.optim.torch_optimizer import RATE, TORCH_RATE, TorchOptimizer
from hpo.training.torch_instances import Builder, Closure, Setting, switch
from hpo.training.update_types import Step, UnsavableState
from hpo.tree import Tree

PLAIN = int | float | bool | str | Tensor | None
OF_EVERY_OPTIMIZER = frozenset(vars(torch.optim.SGD([torch.zeros(1)])))  # attributes


class TorchUpdates:
    """The `Updates` of a `TorchOptimizer`."""

    is_recordable = False  # a step is Python code, whose numbers change

    def __init__(
        self, optimizer: TorchOptimizer, params: Tree, settings: Sequence[Setting], groups: Sequence[ParameterGroup]
    ) -> None:
        """settings: each model's hyperparameters. groups: the parameters, first those without changes."""
        self.state: dict[str, Any] = {}
        self._has_stepped = False
        self._factors: dict[str, float] = {}  # of the schedules, as last set
        builder = Builder(optimizer, groups)
        self.name = builder.name
        takes_closure = builder.takes_closure(_row(params, 0), settings[0])
        self._models = [
            _Model(builder, _row(params, row), setting, takes_closure) for row, setting in enumerate(settings)
        ]

    @property
    def evaluates_others(self) -> bool:
        """Whether an optimizer changes its parameters for evaluation."""
        return any(callable(getattr(each, "eval", None)) for each in self._models[0].optimizers)

    def update(self, grads: Tree, params: Tree, step: Step) -> Tree:
        self._schedule({name: float(factor) for name, factor in step.factors.items()})
        by_model = zip(*(grads[name].contiguous().unbind(0) for name in params), strict=True)
        with _seeds(step.moment.key) as seed:
            for row, (model, gradients) in enumerate(zip(self._models, by_model, strict=True)):
                seed(row)
                model.set_gradients(gradients)
                model.step(self._closure(model, row, step))
        self._has_stepped = True
        return params

    def _schedule(self, factors: Mapping[str, float]) -> None:
        """Sets what has changed, so that an optimizer may change the rest itself."""
        changed = {name: each for name, each in factors.items() if each != self._factors.get(name, 1.0)}
        for model in self._models if changed else ():
            model.schedule(changed)
        self._factors |= changed

    def _closure(self, model: "_Model", row: int, step: Step) -> Closure:
        def closure() -> Tensor:
            gradient, loss = step.reevaluate(row)
            model.set_gradients([gradient[name] for name in model.parameters])
            return loss

        return closure

    def evaluated(self, params: Tree) -> Tree:
        for model in self._models:
            model.set_gradients([None] * len(params))  # frees them
            if self._has_stepped:  # before that, some optimizers have no state to switch
                model.switch("eval")
        return params

    def resume(self) -> None:
        for model in self._models:
            model.switch("train")

    def rebind(self, params: Tree, rows: Sequence[int] | None = None) -> None:
        if rows is not None:
            self._models = [self._models[row] for row in rows]
        for row, model in enumerate(self._models):
            model.rebind(_row(params, row))

    def saved(self, row: int) -> dict[str, Any]:
        return {"instances": self._models[row].saved(), "factors": self._factors, "has_stepped": self._has_stepped}

    def load(self, saved: Sequence[Any]) -> None:
        for model, each in zip(self._models, saved, strict=True):
            model.load(each["instances"])
        self._factors, self._has_stepped = dict(saved[0]["factors"]), saved[0]["has_stepped"]


class _Model:
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
        self._rows = list(row.values())
        for parameter, leaf in zip(self._leaves, self._rows, strict=True):
            parameter.data, parameter.grad = leaf, None
        self._addresses = [leaf.data_ptr() for leaf in self._rows]

    def set_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self._leaves, gradients, strict=True):
            parameter.grad = gradient

    def step(self, closure: Closure) -> None:
        for optimizer, takes_closure in zip(self.optimizers, self._takes_closure, strict=True):
            optimizer.step(closure) if takes_closure else optimizer.step()
        self._keep_views()

    def switch(self, mode: str) -> None:
        for optimizer in self.optimizers:
            switch(optimizer, mode)
        self._keep_views()

    def _keep_views(self) -> None:
        """Copies a parameter to the stack where the optimizer has given it other memory, as in p.data = ..."""
        if [parameter.data_ptr() for parameter in self._leaves] == self._addresses:
            return
        for parameter, row in zip(self._leaves, self._rows, strict=True):
            if parameter.data_ptr() != row.data_ptr():
                row.copy_(parameter.detach())
                parameter.data = row

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
            UnsavableState: the state_dict holds other objects than tensors, numbers and texts.
        """
        saved = []
        for optimizer in self.optimizers:
            state = tree_map(_to_cpu, optimizer.state_dict())
            for leaf in tree_leaves(state):
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


def _row(params: Tree, row: int) -> Tree:
    return {name: leaf[row] for name, leaf in params.items()}


def _to_cpu(leaf: Any) -> Any:
    return leaf.detach().to("cpu", copy=True) if isinstance(leaf, Tensor) else leaf


def _attributes(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer keeps outside its state_dict, as far as it is plain, such as its own count of steps."""
    return {
        name: value
        for name, value in vars(optimizer).items()
        if name not in OF_EVERY_OPTIMIZER and isinstance(value, PLAIN)
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


@contextmanager
def _seeds(keys: Tensor) -> Iterator[Callable[[int], None]]:
    """Yields a function that seeds PyTorch's generators for the model of a row; they are restored afterwards."""
    generators = [torch.default_generator]
    if keys.device.type == "cuda":
        generators.append(torch.cuda.default_generators[keys.device.index or 0])
    states, seeds = [generator.get_state() for generator in generators], keys.tolist()

    def seed(row: int) -> None:
        for generator in generators:
            generator.manual_seed(seeds[row])

    try:
        yield seed
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
