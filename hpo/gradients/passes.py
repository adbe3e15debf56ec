"""PassCache: forward and backward passes over one minibatch, each of them computed once."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.utils._pytree import tree_leaves

from hpo.errors import UsageError
from hpo.gradients.layer_rules import SAMPLE_GRADS, Rule
from hpo.gradients.network import Network, repeat_buffers
from hpo.gradients.returns import compute_losses
from hpo.gradients.rule_check import rules_hold
from hpo.models.losses import SampleLoss
from hpo.tree import Tree
from hpo.user_code.messages import describe_value


class RecordedLayer(NamedTuple):
    """A layer with its rule, and what the rule is called with: input and delta [N, ...]."""

    name: str
    layer: nn.Module
    rule: Rule
    inputs: Any
    delta: Any


class PassCache:
    """A network's passes over a minibatch of N samples, cached at each level of differentiation."""

    def __init__(
        self,
        network: Network,
        sample_loss: SampleLoss,
        inputs: Tensor,
        labels: Tensor,
        buffers: Tree,
        key: Tensor | None,
    ) -> None:
        """Arguments as in `Objective`."""
        self.network, self.inputs, self.labels = network, inputs, labels
        self._sample_loss, self._buffers, self._key = sample_loss, buffers, key
        self._positions = torch.arange(len(labels), device=labels.device)
        self._cache = _Cache()

    def subset(self, samples: slice) -> "PassCache":
        """Passes over some of the samples only; they keep their positions, which their Dropout masks follow from."""
        chosen = copy.copy(self)
        chosen.inputs, chosen.labels = self.inputs[:, samples], self.labels[samples]
        chosen._positions = self._positions[samples]
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
        cached: Tensor | None = self._cache.get("losses", params, view)
        if cached is not None:
            return cached
        outputs, after = self.network.run(params, self._view(view), self._buffers, self._draws)
        losses = self._losses_of(outputs, self.labels)
        self._cache.keep_losses(params, view, losses, after)
        return losses

    def grad_of(self, function: Callable[[Tree], Any], params: Tree) -> tuple[Tree, Tree]:
        """As `Objective.grad_of`."""
        # Tensors of a differentiation must not outlive it: it has its own cache, whose first pass is returned as aux.
        outer = self._cache

        def cached(at: Tree) -> tuple[Tensor, tuple[Tree, Any]]:
            self._cache = _Cache()
            value, tensors = _check_returned(function(at))
            return value, (tensors, self._cache.first)

        try:
            gradient, (tensors, first) = grad(cached, has_aux=True)(params)
        finally:
            self._cache = outer
        outer.keep_first(first)
        return gradient, tensors

    def part_grad(self, params: Tree, view: int, leaves: Tree) -> Tree:
        """Gradient of the mean loss with respect to some leaves; `losses` reuses the pass."""

        def mean_loss(at: Tree) -> tuple[Tensor, Tree]:
            losses = self.losses({**params, **at}, view)
            return losses.mean(), {"losses": losses}

        gradient, tensors = self.grad_of(mean_loss, leaves)
        self._cache.keep_losses(params, view, tensors["losses"])
        return gradient

    def recorded_layers(self, params: Tree, view: int) -> list[RecordedLayer]:
        """Every layer with its input and delta at `params`; the whole network where the layer rules do not hold."""
        if not rules_hold(self.network, self._losses_of):
            return [RecordedLayer("", self.network.module, SAMPLE_GRADS, self.sample_grads(params, view), None)]
        cached: list[RecordedLayer] | None = self._cache.get("layers", params, view)
        if cached is not None:
            return cached
        inputs = self._view(view)
        probes = self.network.recorder.zero_probes(len(inputs), params)

        def total(*added: Tensor) -> tuple[Tensor, tuple[Tensor, list[Tensor], Tree]]:
            outputs, layer_inputs, after = self.network.run_with_probes(
                params, inputs, list(added), self._buffers, self._draws
            )
            losses = self._losses_of(outputs, self.labels)
            return losses.sum(), (losses, layer_inputs, after)

        deltas, (losses, layer_inputs, after) = grad(total, argnums=tuple(range(len(probes))), has_aux=True)(*probes)
        zipped = zip(self.network.recorder.layers, layer_inputs, deltas, strict=True)
        recorded = [RecordedLayer(*layer, layer_input, delta) for layer, layer_input, delta in zipped]
        self._cache.keep_losses(params, view, losses, after)
        self._cache.keep("layers", params, view, recorded)
        return recorded

    def sample_grads(self, params: Tree, view: int) -> Tree:
        """As `Objective.sample_grads`."""
        rules_hold(self.network, self._losses_of)
        if self._buffers:  # their new values follow from the whole batch
            self.losses(params, view)
        buffers = repeat_buffers(self._buffers, len(self.labels))

        def loss_of_one(
            at: Tree, sample_buffers: Tree, sample: Tensor, label: Tensor, position: Tensor
        ) -> tuple[Tensor, Tensor]:
            draws = None if self._key is None else (self._key, position[None])
            outputs, _ = self.network.run(at, sample[None], sample_buffers, draws)
            loss = self._losses_of(outputs, label[None])[0]
            return loss, loss

        gradients, losses = vmap(grad(loss_of_one, has_aux=True), (None, 0, 0, 0, 0))(
            params, buffers, self._view(view), self.labels, self._positions
        )
        self._cache.keep_losses(params, view, losses, {} if not self._buffers else None)
        return gradients

    @property
    def _draws(self) -> tuple[Tensor, Tensor] | None:
        return None if self._key is None else (self._key, self._positions)

    def _view(self, view: int) -> Tensor:
        count = len(self.inputs)
        if not isinstance(view, int) or not 0 <= view < count:
            existing = "only view 0 exists" if count == 1 else f"only views 0 to {count - 1} exist"
            advice = f"; give the Regularizer views={view + 1}" if isinstance(view, int) and view > 0 else ""
            raise UsageError(f"view {view!r} of the minibatch is requested, but {existing}{advice}")
        return self.inputs[view]

    def _losses_of(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return compute_losses(self._sample_loss, outputs, labels)


def _check_returned(returned: Any) -> tuple[Tensor, Tree]:
    """Raises UsageError unless a function to differentiate returned a number and further tensors."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise UsageError(
            f"the function given to grad_of returns {describe_value(returned)}; return (number, tensors), "
            "tensors being a dict, such as {}"
        )
    value, tensors = returned
    if not isinstance(value, Tensor) or value.dim() or not value.is_floating_point():
        raise UsageError(f"{describe_value(value)} cannot be differentiated; return one number, as .mean() does")
    for leaf in tree_leaves(tensors):
        if not isinstance(leaf, Tensor):
            raise UsageError(f"the function given to grad_of also returns {describe_value(leaf)}; return only tensors")
    return value, tensors


class _Cache:
    """What is known at one level of differentiation.

    Inside a user's `torch.func` transform it stores nothing: such tensors end with the transform.

    Attributes:
        first: (mean loss [], buffers afterwards) of the first pass.
    """

    def __init__(self) -> None:
        self.first: tuple[Tensor, Tree] | None = None
        self._level = _transform_level()
        # The parameters are held, so that no other dict gets their identity.
        self._entries: dict[tuple[str, int, int], tuple[Tree, Any]] = {}

    def get(self, kind: str, params: Tree, view: int) -> Any:
        """The stored value; None if there is none."""
        return self._entries.get((kind, id(params), view), (params, None))[1]

    def keep(self, kind: str, params: Tree, view: int, value: Any) -> None:
        if self._level == _transform_level():
            self._entries[kind, id(params), view] = (params, value)

    def keep_losses(self, params: Tree, view: int, losses: Tensor, buffers: Tree | None = None) -> None:
        self.keep("losses", params, view, losses)
        if buffers is not None:
            self.keep_first((losses.mean(), buffers))

    def keep_first(self, first: tuple[Tensor, Tree] | None) -> None:
        if self._level == _transform_level():
            self.first = self.first or first


def _transform_level() -> int | None:
    """How many `torch.func` transforms are active."""
    return torch._C._functorch.maybe_current_level()
