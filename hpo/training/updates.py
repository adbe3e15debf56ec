"""How a population's optimizer turns K gradients into K updates, and the state that it keeps."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch.utils._pytree import tree_map

from hpo.gradients.returns import check_stacked_state, own_copy, validate_evaluated, validate_update, without_caches
from hpo.optim.optimizers import EVALUATED, INIT, UPDATE, Optimizer
from hpo.optim.parameter_groups import ParameterGroup
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.training.torch_updates import TorchUpdates
from hpo.training.update_types import Step, Updates
from hpo.tree import Tree
from hpo.user_code.calls import call_twice
from hpo.user_code.messages import Hyperparameters, call_user_code


def make_updates(
    optimizer: Optimizer | TorchOptimizer,
    params: Tree,
    hyperparameters: Mapping[str, Any],
    groups: Sequence[ParameterGroup],
    seeds: Sequence[int] = (),
) -> Updates:
    """The updates of a population.

    Args:
        params: leaves [K, ...]. hyperparameters: name -> values [K], or the value of a static one.
        groups: the parameters, first those whose hyperparameters are not changed; none for a single group.
        seeds: of what an optimizer written for PyTorch draws when it is built, one per model; by default zeros.
    """
    groups = groups or [ParameterGroup(tuple(params), {})]
    static = {name: hyperparameters[name] for name in optimizer.static}
    if isinstance(optimizer, TorchOptimizer):
        columns = {name: values.tolist() for name, values in hyperparameters.items() if name not in static}
        models = range(len(next(iter(params.values()))))
        settings = [static | {name: values[row] for name, values in columns.items()} for row in models]
        return TorchUpdates(optimizer, params, settings, groups, seeds or [0] * len(settings))
    if len(groups) > 1:
        return GroupedUpdates(optimizer, params, groups, static)
    return FunctionUpdates(optimizer, params, static)


class FunctionUpdates:
    """Updates by the functions of an `Optimizer`; the `Updates` of what is written for stacks or by `per_model`."""

    is_recordable = True
    untrained: Collection[str] = ()

    def __init__(self, optimizer: Optimizer, params: Tree, static: Mapping[str, Any] = MappingProxyType({})) -> None:
        """
        Args:
            static: the values of the optimizer's static hyperparameters.
        """
        self.name, self._optimizer, self._steps = f"optimizer {optimizer.name!r}", optimizer, 0
        leaf, init = next(iter(params.values())), optimizer.init

        def state() -> Any:
            arguments = [dict(static)] if static else []
            return without_caches(call_user_code(self.name, INIT, init, params, *arguments))

        initial = call_twice({f"init of {self.name}": init}, state)
        check_stacked_state(self.name, initial, len(leaf))
        self.state = own_copy(initial, leaf.device)

    @property
    def evaluates_others(self) -> bool:
        """Whether the optimizer has `evaluated`."""
        return self._optimizer.evaluated is not None

    def update(self, grads: Tree, params: Tree, step: Step) -> Tree:
        if self._steps == 1:  # now the state holds what it keeps between steps
            self._check(grads, params, step.hyper)
        params, self.state = self._call(grads, self.state, params, step.hyper)
        if self._steps == 0:
            check_stacked_state(self.name, self.state, len(step.moment.key))
        self._steps += 1
        return params

    def _call(self, grads: Tree, state: Any, params: Tree, hyper: Hyperparameters) -> tuple[Tree, Any]:
        before = dict(params)  # the optimizer may change the dict
        returned = call_user_code(self.name, UPDATE, self._optimizer.update, grads, state, params, hyper)
        return validate_update(self.name, returned, before)

    def _check(self, grads: Tree, params: Tree, hyper: Hyperparameters) -> None:
        """Updates copies twice; raises UsageError unless the update follows from its arguments alone."""

        def update() -> Any:
            state, copies = tree_map(torch.clone, (without_caches(self.state), params))
            copies, state = self._call(grads, state, copies, hyper)
            return copies, without_caches(state)

        call_twice({self.name: self._optimizer.update}, update)

    def evaluated(self, params: Tree) -> Tree:
        function = self._optimizer.evaluated
        if function is None:
            return params
        state = without_caches(self.state)
        return validate_evaluated(
            self.name, call_user_code(self.name, EVALUATED, function, dict(params), state), params
        )

    def resume(self) -> None:
        """Nothing to do: `evaluated` changes nothing."""

    def rebind(self, params: Tree, rows: Sequence[int] | None = None) -> None:
        """Nothing to do: the parameters are an argument of every call."""

    def saved(self, row: int) -> None:
        """Nothing: everything is in `state`."""

    def load(self, saved: Sequence[Any]) -> None:
        """Nothing to do: everything is in `state`."""


class GroupedUpdates(FunctionUpdates):
    """Updates of several parameter groups, each as if its parameters were all that a model has."""

    def __init__(
        self, optimizer: Optimizer, params: Tree, groups: Sequence[ParameterGroup], static: Mapping[str, Any]
    ) -> None:
        self._optimizer = optimizer
        self._groups = [group for group in groups if group.names]
        self._parts = [FunctionUpdates(optimizer, _part(params, group), static) for group in self._groups]

    @property
    def state(self) -> dict[str, Any]:
        """The state of each group by its number."""
        return {str(index): part.state for index, part in enumerate(self._parts)}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        for part, each in zip(self._parts, state.values(), strict=True):
            part.state = each

    def update(self, grads: Tree, params: Tree, step: Step) -> Tree:
        updated: Tree = {}
        for part, group in zip(self._parts, self._groups, strict=True):
            hyper = Hyperparameters(group.values(step.hyper, step.factors), step.hyper.static)
            updated |= part.update(_part(grads, group), _part(params, group), step._replace(hyper=hyper))
        return {name: updated[name] for name in params}

    def evaluated(self, params: Tree) -> Tree:
        evaluated: Tree = {}
        for part, group in zip(self._parts, self._groups, strict=True):
            evaluated |= part.evaluated(_part(params, group))
        return {name: evaluated[name] for name in params}


def _part(tree: Tree, group: ParameterGroup) -> Tree:
    return {name: tree[name] for name in group.names}
