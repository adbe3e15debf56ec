"""Objective: the losses and gradients of one minibatch, as a regularizer requests them.

Everything here is written for one model with scalar hyperparameters; `Population` adds the leading axis by `vmap`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hpo.errors import UsageError, did_you_mean
from hpo.gradients.layer_rules import RecordedLayer
from hpo.gradients.passes import PassCache, View
from hpo.tree import Tree
from hpo.user_code.messages import describe_value

Penalty = Callable[[Tree], Tensor]


class Objective(PassCache):
    """The loss of one minibatch of N samples as a function of the parameters, which every method takes.

    g_i is the gradient of sample i's loss with respect to all parameters, g = mean_i g_i. All passes of a step have the
    same Dropout masks; the first one gives `train_loss` and BatchNorm's statistics.

    Attributes:
        random: its methods `normal`, `signs` and `integers` draw numbers that follow from the model's seed and the
            step; see `Draws`.

    Raises:
        UsageError: parameters or a view that do not exist, or a loss that does not give one number a sample.
    """

    def __getattr__(self, name: str) -> Any:
        known = [method for method in dir(type(self)) if not method.startswith("_")]
        raise AttributeError(f"the objective has no {name!r}; it has {', '.join(known)}{did_you_mean(name, known)}")

    def loss(self, params: Tree, view: View = 0) -> Tensor:
        """Mean loss []."""
        return self.sample_losses(params, view).mean() + self._l2_penalty(params)

    def grad(self, params: Tree, view: View = 0) -> Tree:
        """Gradient of the mean loss; leaves as `params`."""
        return self.grad_of(lambda at: (self.loss(at, view), {}), params)[0]

    def penalised_grad(self, params: Tree, penalty: Penalty, view: View = 0) -> tuple[Tree, Tensor]:
        """Gradient of mean loss + penalty, and the penalty's value [].

        Args:
            penalty: params -> tensor []. It may call any method of this objective, and all of that is differentiated;
                the loss reuses a forward pass that the penalty has made.
        """

        def total(at: Tree) -> tuple[Tensor, Tree]:
            value = penalty(at)
            if not isinstance(value, Tensor) or value.dim():
                raise UsageError(f"its penalty gives {describe_value(value)}; return one number, as .mean() does")
            return self.loss(at, view) + value, {"penalty": value}

        gradient, scalars = self.grad_of(total, params)
        return gradient, scalars["penalty"]

    def last_layer_grad(self, params: Tree, view: View = 0, layers: Sequence[str] = ()) -> Tree:
        """Gradient of the mean loss with respect to some layers only; differentiable in all parameters.

        `loss(params, view)` reuses the pass.

        Args:
            layers: names of submodules with all that they contain; by default the last Linear layer.
        """
        self._network.check_leaves(params)
        leaves = {name: params[name] for name in self._network.leaves_of(layers)}
        return self._part_grad(params, view, leaves)

    def sample_grad_norms(self, params: Tree, view: View = 0, epsilon: float = 0.0) -> Tensor:
        """sqrt(‖g_i‖² + epsilon) [N]; differentiable where epsilon > 0."""
        layers = self._recorded_layers(params, view)
        squares = [rule.square_norms(layer, inputs, delta) for _, layer, rule, inputs, delta in layers]
        return self._share.gather((torch.stack(squares).sum(0) + epsilon).sqrt())

    def weighted_grad(self, params: Tree, weights: Tensor, view: View = 0) -> Tree:
        """mean_i w_i g_i for weights [N]; leaves as `params`."""
        if not isinstance(weights, Tensor) or weights.shape != (self._count,):
            raise UsageError(f"weighted_grad got {describe_value(weights)} for {self._count} samples; give weights [N]")
        return self._weighted_grad(params, self._share.own(weights.to(_dtype(params))), view)

    def _weighted_grad(self, params: Tree, weights: Tensor, view: View) -> Tree:
        """`weighted_grad` for the weights of this process's samples."""
        layers = self._recorded_layers(params, view)
        means = [rule.weighted_grad(layer, inputs, delta, weights) for _, layer, rule, inputs, delta in layers]
        return self._share.mean(_join_leaves(params, layers, means))

    def mean_grad(self, params: Tree, view: View = 0) -> Tree:
        """g = mean_i g_i from the pass that the other per-sample methods use; leaves as `params`.

        Equal to `grad`, and cheaper where norms or signs at the same parameters are needed as well.
        """
        return self._weighted_grad(params, torch.ones_like(self._positions, dtype=_dtype(params)), view)

    def sign_mean(self, params: Tree, view: View = 0) -> Tree:
        """mean_i sign(g_i), between −1 and 1; leaves as `params`."""
        layers = self._recorded_layers(params, view)
        means = [rule.sign_mean(layer, inputs, delta) for _, layer, rule, inputs, delta in layers]
        return self._share.mean(_join_leaves(params, layers, means))


def _join_leaves(params: Tree, layers: Sequence[RecordedLayer], trees: Sequence[Tree]) -> Tree:
    """One tree, in the order of the parameters, from a tree for every layer."""
    leaves = {
        f"{layer.name}.{leaf}" if layer.name else leaf: value
        for layer, tree in zip(layers, trees, strict=True)
        for leaf, value in tree.items()
    }
    return {name: leaves[name] for name in params}


def _dtype(params: Tree) -> torch.dtype:
    return next(iter(params.values())).dtype
