"""Objective: the questions a regularizer may ask about one minibatch. Regularizer: what is asked, as pure functions.

Everything here is written for one model with scalar hyperparameters; `population` adds the leading axis by `vmap`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, vmap

from hpo.network import Network
from hpo.space import Range
from hpo.tree import Tree

Penalty = Callable[[Tree], Tensor]
SampleLoss = Callable[[Tensor, Tensor], Tensor]


def stateless(_: Tree) -> Tree:
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
        init: params -> state, a dict of tensors.
        views: how many augmented views of each minibatch `grads` needs.
    """

    name: str
    grads: Callable[["Objective", Tree, Tree, Tree], tuple[Tree, Tree, Mapping[str, Tensor]]]
    hyperparameters: Mapping[str, Range | float] = {}
    init: Callable[[Tree], Tree] = stateless
    views: int = 1


class Objective:
    """One minibatch of N samples, closed over; every method takes the parameters to ask about.

    g_i is the gradient of sample i's loss with respect to all parameters, g = mean_i g_i.

    Attributes:
        task_loss: mean loss [] at the first parameters that were asked about, without any penalty.
    """

    def __init__(self, network: Network, sample_loss: SampleLoss, inputs: Tensor, labels: Tensor) -> None:
        """inputs [V, N, ...], labels [N]; sample_loss: (outputs [N, ...], labels [N]) -> losses [N]."""
        self._network, self._sample_loss = network, sample_loss
        self._inputs, self._labels = inputs, labels
        self._taped: tuple[Tree, int, _Taped] | None = None
        self._inside_penalty = False
        self.task_loss: Tensor | None = None

    def sample_losses(self, params: Tree, view: int = 0) -> Tensor:
        """Loss of every sample [N]."""
        if self._taped is not None and self._taped[0] is params and self._taped[1] == view:
            return self._taped[2].losses
        return self._sample_loss(self._network(params, self._inputs[view]), self._labels)

    def loss(self, params: Tree, view: int = 0) -> Tensor:
        """Mean loss []."""
        return self.sample_losses(params, view).mean()

    def grad(self, params: Tree, view: int = 0) -> Tree:
        """Gradient of the mean loss; leaves as `params`."""

        def total(at: Tree) -> tuple[Tensor, Tensor]:
            loss = self.loss(at, view)
            return loss, loss

        gradient, loss = grad(total, has_aux=True)(params)
        self._observe(loss)
        return gradient

    def penalised_grad(self, params: Tree, penalty: Penalty, view: int = 0) -> tuple[Tree, Tensor]:
        """Gradient of mean loss + penalty, and the penalty's value [].

        `penalty` maps parameters to a scalar and may ask this objective anything: what it asks is differentiated,
        and a forward pass it has made is used for the loss as well.
        """

        def total(at: Tree) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            extra = penalty(at)
            loss = self.loss(at, view)
            return loss + extra, (loss, extra)

        # What the penalty asks lives inside this differentiation and must not be kept beyond it.
        self._inside_penalty = True
        try:
            gradient, (loss, extra) = grad(total, has_aux=True)(params)
        finally:
            self._inside_penalty = False
            self._taped = None
        self._observe(loss)
        return gradient, extra

    def sample_grad_norms(self, params: Tree, view: int = 0, epsilon: float = 0.0) -> Tensor:
        """sqrt(‖g_i‖² + epsilon) [N]; differentiable where epsilon > 0."""
        taped = self._tape(params, view)
        if taped is None:
            squares = [g.flatten(1).square().sum(1) for g in self.sample_grads(params, view).values()]
        else:
            layers = zip(self._network.layers, taped.layers, strict=True)
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
        """Every g_i, leaves [N, ...]: the slow answer that holds for any module whose samples do not mix."""

        def one(at: Tree, sample: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
            loss = self._sample_loss(self._network(at, sample[None]), label[None])[0]
            return loss, loss

        gradients, losses = vmap(grad(one, has_aux=True), (None, 0, 0))(params, self._inputs[view], self._labels)
        self._observe(losses.mean())
        return gradients

    def _observe(self, loss: Tensor) -> None:
        if self.task_loss is None and not self._inside_penalty:
            self.task_loss = loss

    def _by_rule(self, params: Tree, taped: "_Taped", ask: Callable[..., Tree]) -> Tree:
        leaves = {
            f"{name}.{leaf}" if name else leaf: value
            for (name, layer, rule), seen in zip(self._network.layers, taped.layers, strict=True)
            for leaf, value in ask(layer, rule, seen).items()
        }
        return {name: leaves[name] for name in params}

    def _tape(self, params: Tree, view: int) -> "_Taped | None":
        """Inputs and deltas of every layer at `params`; None where the network's layers have no (valid) rules."""
        if not self._network.rules_hold():
            return None
        if self._taped is not None and self._taped[0] is params and self._taped[1] == view:
            return self._taped[2]
        inputs = self._inputs[view]
        probes = [inputs.new_zeros(len(inputs), *shape) for shape in self._network.output_shapes]

        def total(*added: Tensor) -> tuple[Tensor, tuple[Tensor, list[Tensor]]]:
            outputs, seen = self._network.taped(params, inputs, list(added))
            losses = self._sample_loss(outputs, self._labels)
            return losses.sum(), (losses, seen)

        every = tuple(range(len(probes)))
        deltas, (losses, seen) = grad(total, argnums=every, has_aux=True)(*probes)
        taped = _Taped(losses, list(zip(seen, deltas, strict=True)))
        self._taped = (params, view, taped)
        self._observe(losses.mean())
        return taped


class _Taped(NamedTuple):
    """One recorded pass: losses [N], and (input, delta) of every layer, [N, ...] each."""

    losses: Tensor
    layers: list[tuple[Tensor, Any]]
