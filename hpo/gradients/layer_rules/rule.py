"""Rule: what one layer type knows about its per-sample gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hpo.tree import Tree

# An nn.Module of the type that the rule is for.
Module = Any


class Rule(NamedTuple):
    """What one layer type knows about its per-sample gradients g_i; leaves are named as in the module.

    `delta` is the gradient of sample i's loss with respect to the layer's output for sample i.

    Attributes:
        accepts: (module, input [N, ...]) -> bool, whether the rule covers this module with this input's shape.
        square_norms: (module, input [N, ...], delta [N, ...]) -> ‖g_i‖² [N], differentiable.
        weighted_grad: (module, input, delta, weights [N]) -> leaves of mean_i w_i g_i.
        sign_mean: (module, input, delta) -> leaves of mean_i sign(g_i).
    """

    accepts: Callable[[Module, Tensor], bool]
    square_norms: Callable[[Module, Tensor, Tensor], Tensor]
    weighted_grad: Callable[[Module, Tensor, Tensor, Tensor], Tree]
    sign_mean: Callable[[Module, Tensor, Tensor], Tree]


def rule_of_small_leaves(
    accepts: Callable[[Module, Tensor], bool], sample_grads: Callable[[Module, Tensor, Tensor], Tree]
) -> Rule:
    """The rule of a layer whose per-sample gradients are no larger than its output: they are simply formed.

    Args:
        sample_grads: (module, input [N, ...], delta [N, ...]) -> leaves [N, ...].
    """

    def square_norms(module: Module, inputs: Tensor, delta: Tensor) -> Tensor:
        leaves = sample_grads(module, inputs, delta).values()
        return torch.stack([leaf.flatten(1).square().sum(1) for leaf in leaves]).sum(0)

    def weighted_grad(module: Module, inputs: Tensor, delta: Tensor, weights: Tensor) -> Tree:
        leaves = sample_grads(module, inputs, delta)
        return {name: torch.tensordot(weights, leaf, 1) / len(weights) for name, leaf in leaves.items()}

    def sign_mean(module: Module, inputs: Tensor, delta: Tensor) -> Tree:
        return {name: leaf.sign().mean(0) for name, leaf in sample_grads(module, inputs, delta).items()}

    return Rule(accepts, square_norms, weighted_grad, sign_mean)
