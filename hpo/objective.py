"""Objective: the questions a regularizer may ask about one minibatch. Regularizer: what is asked, as pure functions.

Everything here is written for one model with scalar hyperparameters; `population` adds the leading axis by `vmap`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, vmap

from hpo.losses import SampleLoss
from hpo.network import Network
from hpo.space import Range
from hpo.tree import Tree

Penalty = Callable[[Tree], Tensor]
State = dict[str, Any]


def stateless(_: Tree) -> State:
    """The `init` of a regularizer that remembers nothing from step to step."""
    return {}


class Regularizer(NamedTuple):
    """How a gradient is formed.

    Attributes:
        name: what error messages and listings call it.
        grads: (objective, params, state, hyperparameters) -> (gradient, state, scalars). `gradient` has the leaves
            of `params`; `scalars` is a dict of tensors [] whose epoch means land in the curves as `aux/<name>`.
        hyperparameters: name -> its default: a `Range` to tune it over, or a number to keep it at. `grads` gets
            each as a tensor [].
        init: params -> state, nested dicts of tensors.
        views: how many augmented views of each minibatch `grads` needs.
    """

    name: str
    grads: Callable[["Objective", Tree, State, Tree], tuple[Tree, State, Mapping[str, Tensor]]]
    hyperparameters: Mapping[str, Range | float] = {}
    init: Callable[[Tree], State] = stateless
    views: int = 1


class Objective:
    """One minibatch of N samples, closed over; every method takes the parameters to ask about.

    g_i is the gradient of sample i's loss with respect to all parameters, g = mean_i g_i.
    """

    def __init__(
        self,
        network: Network,
        sample_loss: SampleLoss,
        inputs: Tensor,
        labels: Tensor,
        buffers: Tree | None = None,
        key: Tensor | None = None,
    ) -> None:
        """
        Args:
            sample_loss: (outputs [N, ...], labels [N]) -> losses [N].
            inputs: [V, N, ...], one entry a view. labels: [N].
            buffers: the network's, such as BatchNorm's running statistics; left as they are.
            key: int64 [], what Dropout's masks follow from.
        """
        self._network, self._sample_loss = network, sample_loss
        self._inputs, self._labels = inputs, labels
        self._buffers = buffers or {}
        places = torch.arange(len(labels), device=labels.device)
        self._draws = None if key is None else (key, places)
        self._memory = _Memory()

    @property
    def task_loss(self) -> Tensor | None:
        """Mean loss [] of the first pass, without any penalty; None before it."""
        return None if self._memory.first is None else self._memory.first[0]

    @property
    def buffers(self) -> Tree:
        """The network's buffers after the first pass: a step updates them once, however often it evaluates."""
        return self._buffers if self._memory.first is None else self._memory.first[1]

    def sample_losses(self, params: Tree, view: int = 0) -> Tensor:
        """Loss of every sample [N]."""
        known = self._memory.losses(params, view)
        if known is not None:
            return known
        outputs, after = self._network.run(params, self._inputs[view], self._buffers, self._draws)
        losses = self._sample_loss(outputs, self._labels)
        self._memory.keep_losses(params, view, losses, after)
        return losses

    def loss(self, params: Tree, view: int = 0) -> Tensor:
        """Mean loss []."""
        return self.sample_losses(params, view).mean()

    def grad(self, params: Tree, view: int = 0) -> Tree:
        """Gradient of the mean loss; leaves as `params`."""
        return self.grad_of(lambda at: (self.loss(at, view), {}), params)[0]

    def penalised_grad(self, params: Tree, penalty: Penalty, view: int = 0) -> tuple[Tree, Tensor]:
        """Gradient of mean loss + penalty, and the penalty's value [].

        `penalty` maps parameters to a scalar and may ask this objective anything: what it asks is differentiated,
        and a forward pass it has made is used for the loss as well.
        """

        def total(at: Tree) -> tuple[Tensor, Tree]:
            extra = penalty(at)
            return self.loss(at, view) + extra, {"penalty": extra}

        gradient, scalars = self.grad_of(total, params)
        return gradient, scalars["penalty"]

    def grad_of(self, function: Callable[[Tree], tuple[Tensor, Tree]], params: Tree) -> tuple[Tree, Tree]:
        """Gradient of any scalar function of the parameters that asks this objective.

        Args:
            function: params -> (scalar [] to differentiate, further tensors to hand out). May be nested.

        Returns:
            (gradient with the leaves of `params`, the further tensors).
        """
        # Tensors made inside a differentiation must not be kept beyond it: a memory of its own, handed out as aux.
        outer = self._memory

        def remembered(at: Tree) -> tuple[Tensor, tuple[Tree, Any]]:
            self._memory = _Memory()
            value, tensors = function(at)
            return value, (tensors, self._memory.first)

        try:
            gradient, (tensors, first) = grad(remembered, has_aux=True)(params)
        finally:
            self._memory = outer
        outer.observe(first)
        return gradient, tensors

    def last_layer_grad(
        self, params: Tree, view: int = 0, layers: Sequence[str] = (), samples: slice = slice(None)
    ) -> Tree:
        """Gradient of the mean loss with respect to some layers alone; differentiable in all parameters.

        The pass serves `loss(params, view)` as well.

        Args:
            layers: names of submodules; by default the last Linear layer.
            samples: which samples of the batch the mean is over.
        """
        leaves = {name: params[name] for name in self._network.leaves_of(layers)}

        def part(at: Tree) -> tuple[Tensor, Tree]:
            losses = self.sample_losses({**params, **at}, view)
            return losses[samples].mean(), {"losses": losses}

        gradient, tensors = self.grad_of(part, leaves)
        self._memory.keep_losses(params, view, tensors["losses"])
        return gradient

    def sample_grad_norms(self, params: Tree, view: int = 0, epsilon: float = 0.0) -> Tensor:
        """sqrt(‖g_i‖² + epsilon) [N]; differentiable where epsilon > 0."""
        taped = self._tape(params, view)
        if taped is None:
            squares = [g.flatten(1).square().sum(1) for g in self.sample_grads(params, view).values()]
        else:
            layers = zip(self._network.layers, taped, strict=True)
            squares = [rule.square_norms(layer, *seen) for (_, layer, rule), seen in layers]
        return (torch.stack(squares).sum(0) + epsilon).sqrt()

    def weighted_grad(self, params: Tree, weights: Tensor, view: int = 0) -> Tree:
        """mean_i w_i g_i for weights [N]; leaves as `params`."""
        taped = self._tape(params, view)
        if taped is None:
            samples = self.sample_grads(params, view)
            return {name: torch.einsum("n,n...->...", weights, g) / len(weights) for name, g in samples.items()}
        return self._by_rule(params, taped, lambda layer, rule, seen: rule.weighted_grad(layer, *seen, weights))

    def mean_grad(self, params: Tree, view: int = 0) -> Tree:
        """g = mean_i g_i from the pass that answers the other per-sample questions; leaves as `params`.

        Equal to `grad`, and cheaper where the same parameters are asked for norms or signs as well.
        """
        return self.weighted_grad(params, torch.ones_like(self._labels, dtype=self._inputs.dtype), view)

    def sign_mean(self, params: Tree, view: int = 0) -> Tree:
        """mean_i sign(g_i), between −1 and 1; leaves as `params`."""
        taped = self._tape(params, view)
        if taped is None:
            return {name: g.sign().mean(0) for name, g in self.sample_grads(params, view).items()}
        return self._by_rule(params, taped, lambda layer, rule, seen: rule.sign_mean(layer, *seen))

    def sample_grads(self, params: Tree, view: int = 0) -> Tree:
        """Every g_i, leaves [N, ...]: the slow answer that holds for any module whose samples do not mix.

        Raises:
            UsageError: the module has a layer that mixes samples.
        """
        self._network.rules_hold()
        places = torch.arange(len(self._labels), device=self._labels.device)

        def one(at: Tree, sample: Tensor, label: Tensor, place: Tensor) -> tuple[Tensor, tuple[Tensor, Tree]]:
            draws = None if self._draws is None else (self._draws[0], place[None])
            outputs, after = self._network.run(at, sample[None], self._buffers, draws)
            loss = self._sample_loss(outputs, label[None])[0]
            return loss, (loss, after)

        gradients, (losses, after) = vmap(grad(one, has_aux=True), (None, 0, 0, 0))(
            params, self._inputs[view], self._labels, places
        )
        self._memory.keep_losses(params, view, losses, {name: value[0] for name, value in after.items()})
        return gradients

    def _by_rule(self, params: Tree, taped: "_Taped", ask: Callable[..., Tree]) -> Tree:
        leaves = {
            f"{name}.{leaf}" if name else leaf: value
            for (name, layer, rule), seen in zip(self._network.layers, taped, strict=True)
            for leaf, value in ask(layer, rule, seen).items()
        }
        return {name: leaves[name] for name in params}

    def _tape(self, params: Tree, view: int) -> "_Taped | None":
        """Inputs and deltas of every layer at `params`; None where the network's layers have no (valid) rules."""
        if not self._network.rules_hold():
            return None
        known = self._memory.taped(params, view)
        if known is not None:
            return known
        inputs = self._inputs[view]
        probes = [inputs.new_zeros(len(inputs), *shape) for shape in self._network.output_shapes]

        def total(*added: Tensor) -> tuple[Tensor, tuple[Tensor, list[Tensor]]]:
            outputs, seen = self._network.taped(params, inputs, list(added), self._buffers, self._draws)
            losses = self._sample_loss(outputs, self._labels)
            return losses.sum(), (losses, seen)

        every = tuple(range(len(probes)))
        deltas, (losses, seen) = grad(total, argnums=every, has_aux=True)(*probes)
        taped = list(zip(seen, deltas, strict=True))
        self._memory.keep_losses(params, view, losses, self._buffers)
        self._memory.keep_taped(params, view, taped)
        return taped


# (input, delta) of every layer with a rule, [N, ...] each.
_Taped = list[tuple[Tensor, Any]]


class _Memory:
    """What is known at one level of differentiation, so that no pass is made twice.

    Attributes:
        first: (mean loss [], buffers afterwards) of the first pass.
    """

    def __init__(self) -> None:
        self.first: tuple[Tensor, Tree] | None = None
        # By (identity of the parameters, view); the parameters are held, so that no other dict takes the identity.
        self._losses: dict[tuple[int, int], tuple[Tree, Tensor]] = {}
        self._taped: dict[tuple[int, int], tuple[Tree, _Taped]] = {}

    def losses(self, params: Tree, view: int) -> Tensor | None:
        found = self._losses.get((id(params), view))
        return found[1] if found else None

    def taped(self, params: Tree, view: int) -> _Taped | None:
        found = self._taped.get((id(params), view))
        return found[1] if found else None

    def keep_losses(self, params: Tree, view: int, losses: Tensor, buffers: Tree | None = None) -> None:
        self._losses[id(params), view] = (params, losses)
        if buffers is not None:
            self.observe((losses.mean(), buffers))

    def keep_taped(self, params: Tree, view: int, taped: _Taped) -> None:
        self._taped[id(params), view] = (params, taped)

    def observe(self, first: tuple[Tensor, Tree] | None) -> None:
        self.first = self.first or first
