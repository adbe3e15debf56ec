"""Objective: the questions that a regularizer may ask about one minibatch.

Everything here is written for one model with scalar hyperparameters; `population` adds the leading axis by `vmap`.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hpo.errors import UsageError, did_you_mean
from hpo.gradients.network import Network
from hpo.gradients.passes import PassCache, RecordedLayers
from hpo.models.losses import SampleLoss
from hpo.tree import Tree
from hpo.user_code.messages import describe_value

Penalty = Callable[[Tree], Tensor]


class Objective:
    """One minibatch of N samples, closed over; every method takes the parameters to ask about.

    g_i is the gradient of sample i's loss with respect to all parameters, g = mean_i g_i.

    Raises:
        UsageError: whatever is asked about other parameters or views than there are, or given another loss.
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
        self._network = network
        self._passes = PassCache(network, sample_loss, inputs, labels, buffers or {}, key)

    def __getattr__(self, name: str) -> Any:
        known = [question for question in dir(type(self)) if not question.startswith("_")]
        raise AttributeError(f"the objective has no {name!r}; it has {', '.join(known)}{did_you_mean(name, known)}")

    @property
    def task_loss(self) -> Tensor | None:
        """Mean loss [] of the first pass, without any penalty; None before it."""
        return self._passes.task_loss

    @property
    def buffers(self) -> Tree:
        """The network's buffers after the first pass: a step updates them once, however often it evaluates."""
        return self._passes.buffers

    def subset(self, samples: slice) -> "Objective":
        """The same questions about some of the samples, in all views, answered by passes of their own.

        BatchNorm sees them alone; `task_loss` and `buffers` of this objective stay those of the whole batch. As the
        order of samples is drawn anew, from the seed, in each epoch, the first n are n random ones, none twice.

        Args:
            samples: their places in the batch, such as slice(32); those beyond its end are left out.
        """
        count = len(self._passes.labels)
        if not isinstance(samples, slice) or not range(count)[samples]:
            raise UsageError(f"subset is given {samples!r} for {count} samples; give a slice of them, as slice(32) is")
        chosen = copy.copy(self)
        chosen._passes = self._passes.of(samples)
        return chosen

    def sample_losses(self, params: Tree, view: int = 0) -> Tensor:
        """Loss of every sample [N]."""
        return self._passes.losses(params, view)

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
            if not isinstance(extra, Tensor) or extra.dim():
                raise UsageError(
                    f"its penalty gives {describe_value(extra)}; return a tensor of one number, as mean() is"
                )
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
        return self._passes.grad_of(function, params)

    def last_layer_grad(self, params: Tree, view: int = 0, layers: Sequence[str] = ()) -> Tree:
        """Gradient of the mean loss with respect to some layers alone; differentiable in all parameters.

        The pass serves `loss(params, view)` as well.

        Args:
            layers: names of submodules, each of which stands for all that is in it; by default the last Linear layer.
        """
        self._network.check_leaves(params)
        leaves = {name: params[name] for name in self._network.leaves_of(layers)}
        return self._passes.part_grad(params, view, leaves)

    def sample_grad_norms(self, params: Tree, view: int = 0, epsilon: float = 0.0) -> Tensor:
        """sqrt(‖g_i‖² + epsilon) [N]; differentiable where epsilon > 0."""
        recorded = self._passes.recorded_layers(params, view)
        if recorded is None:
            squares = [g.reshape(len(g), -1).square().sum(1) for g in self.sample_grads(params, view).values()]
        else:
            layers = zip(self._network.layers, recorded, strict=True)
            squares = [rule.square_norms(layer, *seen) for (_, layer, rule), seen in layers]
        return (torch.stack(squares).sum(0) + epsilon).sqrt()

    def weighted_grad(self, params: Tree, weights: Tensor, view: int = 0) -> Tree:
        """mean_i w_i g_i for weights [N]; leaves as `params`."""
        labels = self._passes.labels
        if not isinstance(weights, Tensor) or weights.shape != labels.shape:
            raise UsageError(
                f"weighted_grad is given {describe_value(weights)} for {len(labels)} samples; give weights [N]"
            )
        weights = weights.to(_dtype(params))
        recorded = self._passes.recorded_layers(params, view)
        if recorded is None:
            samples = self.sample_grads(params, view)
            return {name: torch.einsum("n,n...->...", weights, g) / len(weights) for name, g in samples.items()}
        return self._by_rule(params, recorded, lambda layer, rule, seen: rule.weighted_grad(layer, *seen, weights))

    def mean_grad(self, params: Tree, view: int = 0) -> Tree:
        """g = mean_i g_i from the pass that answers the other per-sample questions; leaves as `params`.

        Equal to `grad`, and cheaper where the same parameters are asked for norms or signs as well.
        """
        return self.weighted_grad(params, torch.ones_like(self._passes.labels, dtype=_dtype(params)), view)

    def sign_mean(self, params: Tree, view: int = 0) -> Tree:
        """mean_i sign(g_i), between −1 and 1; leaves as `params`."""
        recorded = self._passes.recorded_layers(params, view)
        if recorded is None:
            return {name: g.sign().mean(0) for name, g in self.sample_grads(params, view).items()}
        return self._by_rule(params, recorded, lambda layer, rule, seen: rule.sign_mean(layer, *seen))

    def sample_grads(self, params: Tree, view: int = 0) -> Tree:
        """Every g_i, leaves [N, ...]: the slow answer that holds for any module whose samples do not mix.

        Raises:
            UsageError: the module has a layer that mixes samples.
        """
        return self._passes.sample_grads(params, view)

    def _by_rule(self, params: Tree, recorded: RecordedLayers, ask: Callable[..., Tree]) -> Tree:
        leaves = {
            f"{name}.{leaf}" if name else leaf: value
            for (name, layer, rule), seen in zip(self._network.layers, recorded, strict=True)
            for leaf, value in ask(layer, rule, seen).items()
        }
        return {name: leaves[name] for name in params}


def _dtype(params: Tree) -> torch.dtype:
    return next(iter(params.values())).dtype
