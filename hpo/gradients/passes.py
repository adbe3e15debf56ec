"""PassCache: forward and backward passes over one minibatch, none of them made twice."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils._pytree import tree_leaves

from hpo.errors import UsageError
from hpo.gradients.network import Network, repeat_buffers
from hpo.gradients.returns import compute_losses
from hpo.gradients.rule_check import rules_hold
from hpo.models.losses import SampleLoss
from hpo.tree import Tree
from hpo.user_code.messages import describe_value

# (input, delta) of every layer with a rule, [N, ...] each.
RecordedLayers = list[tuple[Tensor, Any]]


class PassCache:
    """A network's passes over a minibatch of N samples, remembered at each level of differentiation."""

    def __init__(
        self,
        network: Network,
        sample_loss: SampleLoss,
        inputs: Tensor,
        labels: Tensor,
        buffers: Tree,
        key: Tensor | None,
    ) -> None:
        """As `Objective`."""
        self.network, self.inputs, self.labels = network, inputs, labels
        self._sample_loss, self._buffers = sample_loss, buffers
        self._places = torch.arange(len(labels), device=labels.device)
        self._draws = None if key is None else (key, self._places)
        self._cache = _Cache()

    def of(self, samples: slice) -> "PassCache":
        """The passes over some of the samples alone; a sample's place, which its Dropout masks follow from, is kept."""
        chosen = copy.copy(self)
        chosen.inputs, chosen.labels = self.inputs[:, samples], self.labels[samples]
        chosen._places = self._places[samples]
        chosen._draws = None if self._draws is None else (self._draws[0], chosen._places)
        chosen._cache = _Cache()
        return chosen

    @property
    def task_loss(self) -> Tensor | None:
        """Mean loss [] of the first pass; None before it."""
        return None if self._cache.first is None else self._cache.first[0]

    @property
    def buffers(self) -> Tree:
        """The network's buffers after the first pass."""
        return self._buffers if self._cache.first is None else self._cache.first[1]

    def losses(self, params: Tree, view: int) -> Tensor:
        """Loss of every sample [N]."""
        known = self._cache.losses(params, view)
        if known is not None:
            return known
        outputs, after = self.network.run(params, self._seen(view), self._buffers, self._draws)
        losses = self._losses_of(outputs, self.labels)
        self._cache.keep_losses(params, view, losses, after)
        return losses

    def grad_of(self, function: Callable[[Tree], Any], params: Tree) -> tuple[Tree, Tree]:
        """As `Objective.grad_of`."""
        # Tensors made inside a differentiation must not be kept beyond it: a memory of its own, handed out as aux.
        outer = self._cache

        def remembered(at: Tree) -> tuple[Tensor, tuple[Tree, Any]]:
            self._cache = _Cache()
            value, tensors = _two(function(at))
            return value, (tensors, self._cache.first)

        try:
            gradient, (tensors, first) = grad(remembered, has_aux=True)(params)
        finally:
            self._cache = outer
        outer.observe(first)
        return gradient, tensors

    def part_grad(self, params: Tree, view: int, leaves: Tree) -> Tree:
        """Gradient of the mean loss with respect to some leaves; the pass serves `losses` as well."""

        def part(at: Tree) -> tuple[Tensor, Tree]:
            losses = self.losses({**params, **at}, view)
            return losses.mean(), {"losses": losses}

        gradient, tensors = self.grad_of(part, leaves)
        self._cache.keep_losses(params, view, tensors["losses"])
        return gradient

    def recorded_layers(self, params: Tree, view: int) -> RecordedLayers | None:
        """Inputs and deltas of every layer at `params`; None where the network's layers have no (valid) rules."""
        if not rules_hold(self.network, self._losses_of):
            return None
        known = self._cache.recorded_layers(params, view)
        if known is not None:
            return known
        inputs = self._seen(view)
        probes = self.network.probes(len(inputs), params)

        def total(*added: Tensor) -> tuple[Tensor, tuple[Tensor, list[Tensor], Tree]]:
            outputs, seen, after = self.network.run_with_probes(params, inputs, list(added), self._buffers, self._draws)
            losses = self._losses_of(outputs, self.labels)
            return losses.sum(), (losses, seen, after)

        every = tuple(range(len(probes)))
        deltas, (losses, seen, after) = grad(total, argnums=every, has_aux=True)(*probes)
        recorded = list(zip(seen, deltas, strict=True))
        self._cache.keep_losses(params, view, losses, after)
        self._cache.keep_recorded_layers(params, view, recorded)
        return recorded

    def sample_grads(self, params: Tree, view: int) -> Tree:
        """As `Objective.sample_grads`."""
        rules_hold(self.network, self._losses_of)
        if self._buffers:  # what they become follows from the batch as a whole
            self.losses(params, view)
        buffers = repeat_buffers(self._buffers, len(self.labels))

        def one(at: Tree, own: Tree, sample: Tensor, label: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
            draws = None if self._draws is None else (self._draws[0], place[None])
            outputs, _ = self.network.run(at, sample[None], own, draws)
            loss = self._losses_of(outputs, label[None])[0]
            return loss, loss

        gradients, losses = vmap(grad(one, has_aux=True), (None, 0, 0, 0, 0))(
            params, buffers, self._seen(view), self.labels, self._places
        )
        self._cache.keep_losses(params, view, losses, {} if not self._buffers else None)
        return gradients

    def _seen(self, view: int) -> Tensor:
        count = len(self.inputs)
        if not isinstance(view, int) or not 0 <= view < count:
            there = "there is view 0 alone" if count == 1 else f"there are views 0 to {count - 1}"
            mend = f"; give the Regularizer views={view + 1}" if isinstance(view, int) and view > 0 else ""
            raise UsageError(f"the objective is asked about view {view!r}, and {there}{mend}")
        return self.inputs[view]

    def _losses_of(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return compute_losses(self._sample_loss, outputs, labels)


def _two(returned: Any) -> tuple[Tensor, Tree]:
    """Raises UsageError unless a function to differentiate returned a number and further tensors."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise UsageError(
            f"grad_of is given a function that returns {describe_value(returned)}; return (number, tensors), "
            "tensors being a dict, such as {}"
        )
    value, tensors = returned
    if not isinstance(value, Tensor) or value.dim() or not value.is_floating_point():
        raise UsageError(
            f"{describe_value(value)} is to be differentiated; take its sum or mean, a tensor of one number"
        )
    for leaf in tree_leaves(tensors):
        if not isinstance(leaf, Tensor):
            raise UsageError(f"grad_of is given a function that hands out {describe_value(leaf)}; hand out tensors")
    return value, tensors


class _Cache:
    """What is known at one level of differentiation, so that no pass is made twice.

    Inside a `torch.func` transform of the user's own it keeps nothing: such tensors end with the transform.

    Attributes:
        first: (mean loss [], buffers afterwards) of the first pass.
    """

    def __init__(self) -> None:
        self.first: tuple[Tensor, Tree] | None = None
        self._level = _level()
        # By (identity of the parameters, view); the parameters are held, so that no other dict takes the identity.
        self._losses: dict[tuple[int, int], tuple[Tree, Tensor]] = {}
        self._recorded_layers: dict[tuple[int, int], tuple[Tree, RecordedLayers]] = {}

    def losses(self, params: Tree, view: int) -> Tensor | None:
        found = self._losses.get((id(params), view))
        return found[1] if found else None

    def recorded_layers(self, params: Tree, view: int) -> RecordedLayers | None:
        found = self._recorded_layers.get((id(params), view))
        return found[1] if found else None

    def keep_losses(self, params: Tree, view: int, losses: Tensor, buffers: Tree | None = None) -> None:
        if self._level == _level():
            self._losses[id(params), view] = (params, losses)
        if buffers is not None:
            self.observe((losses.mean(), buffers))

    def keep_recorded_layers(self, params: Tree, view: int, recorded: RecordedLayers) -> None:
        if self._level == _level():
            self._recorded_layers[id(params), view] = (params, recorded)

    def observe(self, first: tuple[Tensor, Tree] | None) -> None:
        if self._level == _level():
            self.first = self.first or first


def _level() -> int | None:
    """How many `torch.func` transforms are under way."""
    return torch._C._functorch.maybe_current_level()
