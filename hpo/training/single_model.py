"""SingleModel: a regularizer's gradient for one model, checked; `population` lifts it to many models."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_leaves_with_path, tree_map

from hpo.errors import UsageError
from hpo.gradients.draws import Moment
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.gradients.returns import check_state, validate_gradient, validate_state
from hpo.models.losses import SampleLoss
from hpo.optim.regularizer import Regularizer, State
from hpo.tree import Tree
from hpo.user_code.messages import UserCodeError, call_user_code, warn_once


class SingleModel:
    """One model of a network, a regularizer and a loss; leaves [...], hyperparameters [].

    With `accumulate` above 1 (gradient accumulation), each minibatch is divided into as many micro-batches, and the
    gradient, the scalars and the state are the means over them, each starting from the same state. Entries of a state
    that are not floating-point numbers, such as counts, are those after the last micro-batch. BatchNorm normalises by
    micro-batch and updates its running statistics with each. For SAM, VaSSO and GAM, which perturb the parameters by
    micro-batch, this is m-sharpness with m = batch_size / accumulate (Foret et al., arXiv:2010.01412, section 4.1).

    Attributes:
        name: the regularizer as error messages name it. static: the values of its static hyperparameters.
        gradient_evaluations: those that the first minibatch needed (see `GradientCount`); 0 before it.
    """

    def __init__(
        self,
        network: Network,
        regularizer: Regularizer,
        sample_loss: SampleLoss,
        accumulate: int = 1,
        static: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.network, self.regularizer, self.sample_loss = network, regularizer, sample_loss
        self.accumulate, self.static = accumulate, dict(static)
        self.name = f"regularizer {regularizer.name!r}"
        self.gradient_evaluations = 0.0

    def state(self, params: Tree) -> State:
        """The regularizer's state before the first step."""
        usage, static = ("init(params, hyper)", [dict(self.static)]) if self.static else ("init(params)", [])
        state = call_user_code(self.name, usage, self.regularizer.init, dict(params), *static)
        check_state(self.name, state)
        return state

    def gradient(
        self, params: Tree, state: State, buffers: Tree, hyper: Tree, inputs: Tensor, labels: Tensor, moment: Moment
    ) -> tuple[Tree, State, Tree, Tree]:
        """The regularizer's gradient, its state, its scalars [] named as by `Population.step`, and the new buffers.

        Args:
            inputs: [V, N, ...], the clean view last where the regularizer has one. labels: [N, ...].
        """
        clean_view = self.regularizer.clean_view
        objective = Objective(self.network, self.sample_loss, inputs, labels, buffers, moment, clean_view)
        results = []
        for part in objective.micro_batches(self.accumulate):
            results.append(self._gradient(part, params, state, hyper))
            buffers = part.buffers
        self.gradient_evaluations = self.gradient_evaluations or objective.gradient_evaluations
        return *(results[0] if len(results) == 1 else tree_map(_mean, *results)), buffers

    def _gradient(self, objective: Objective, params: Tree, state: State, hyper: Tree) -> tuple[Tree, State, Tree]:
        given, own = tree_map(lambda leaf: leaf, (state, hyper))  # user code may change the dicts themselves
        usage = "grads(objective, params, state, hyper)"
        try:
            returned = call_user_code(self.name, usage, self.regularizer.grads, objective, dict(params), given, own)
        except UserCodeError:
            raise
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from error
        gradient, after, scalars = validate_gradient(self.name, returned, params)
        loss = objective.task_loss if objective.task_loss is not None else objective.loss(params)
        # Booleans and integers become floats: curves show their mean over the steps.
        dtype = torch.promote_types(loss.dtype, torch.float32)
        named = {"train_loss": loss.to(dtype)} | {f"aux/{name}": value.to(dtype) for name, value in scalars.items()}
        return gradient, validate_state(self.name, after, state), named


def _mean(*leaves: Tensor) -> Tensor:
    return torch.stack(leaves).mean(0) if leaves[0].is_floating_point() else leaves[-1]


@contextmanager
def refuse_in_place_changes(name: str, given: Mapping[str, Any]) -> Iterator[None]:
    """Around a call of user code that must not change its arguments in place.

    Args:
        name: the code as messages name it. given: trees of tensors by their argument's name, such as "params".

    Raises:
        UsageError: the code has changed a tensor.
    """
    leaves = tree_leaves_with_path(dict(given))
    versions = [leaf._version for _, leaf in leaves]
    try:
        yield
    finally:  # also after an error, which a change in place may have caused
        for (path, leaf), version in zip(leaves, versions, strict=True):
            if leaf._version != version:
                where = f"{path[0].key}{keystr(path[1:])}"  # type: ignore[attr-defined]
                raise UsageError(f"{name} changes {where} in place; make a new tensor instead, as in x = x + 1")


def warn_about_gradients(name: str, gradients: Tree, loss: Tensor) -> None:
    """Warns if a gradient is not finite although the loss is, or if it is zero in all leaves and models.

    Args:
        gradients: leaves [K, ...] of the first step. loss: [K].
    """
    nonzero = False
    for leaf, gradient in gradients.items():
        rows = gradient.reshape(len(gradient), -1)
        if (~rows.isfinite().all(1) & loss.isfinite()).any():
            warn_once(
                f"{name} gives a gradient for {leaf!r} that is not finite in the first step; the run will diverge"
            )
            return
        nonzero |= bool(rows.any())
    if not nonzero:
        warn_once(f"{name} gives a gradient that is zero for all parameters in the first step; is it detached?")
