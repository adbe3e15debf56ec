"""How a population's optimizer turns K gradients into K updates, and the state that it keeps."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hpo.gradients.draws import Moment
from hpo.gradients.returns import check_stacked_state, own_copy, validate_evaluated, validate_update, without_caches
from hpo.optim.optimizers import EVALUATED, INIT, UPDATE, Optimizer
from hpo.tree import Tree
from hpo.user_code.calls import call_twice
from hpo.user_code.messages import Hyperparameters, call_user_code


class Step(NamedTuple):
    """What an update gets besides gradients and parameters.

    Attributes:
        hyper: name -> values [K], times their schedules. factors: name -> the factor of its schedule, a tensor [1].
        moment: when the step takes place, and the keys of the models' random draws; leaves [K].
    """

    hyper: Hyperparameters
    factors: Mapping[str, Tensor | float]
    moment: Moment


class Updates(Protocol):
    """The optimizer of K models in training.

    Attributes:
        name: the optimizer as messages name it. state: tensors [K, ...], which the population saves and restores.
        is_recordable: whether an update consists of tensor operations only, as a CUDA graph needs.
    """

    name: str
    state: dict[str, Any]
    is_recordable: bool

    def update(self, grads: Tree, params: Tree, step: Step) -> Tree:
        """The parameters [K, ...] after a step, which may be those given, changed in place."""

    def evaluated(self, params: Tree) -> Tree:
        """The parameters to evaluate, until the next update."""


class FunctionUpdates:
    """Updates by the functions of an `Optimizer`; the `Updates` of what is written for stacks or by `per_model`."""

    is_recordable = True

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
