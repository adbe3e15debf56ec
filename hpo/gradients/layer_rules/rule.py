"""Rule: how one layer type computes norms, weighted means and mean signs of its per-sample gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hpo.tree import Tree

# An nn.Module of the type that the rule is for.
Module = Any


class Rule(NamedTuple):
    """Functions of the per-sample gradients g_i of one layer type; leaves are named as in the module.

    `delta` is the gradient of sample i's loss with respect to the layer's output for sample i.

    Attributes:
        accepts: (module, input [N, ...]) -> bool, whether the rule covers this module with this input's shape.
        square_norms: (module, input [N, ...], delta [N, ...]) -> ‖g_i‖² [N], differentiable.
        weighted_grad: (module, input, delta, weights [N]) -> leaves of mean_i w_i g_i.
        sign_mean: (module, input, delta) -> leaves of mean_i sign(g_i).
    """

    accepts: Callable[[Module, Tensor], bool]
    square_norms: Callable[[Module, Any, Any], Tensor]
    weighted_grad: Callable[[Module, Any, Any, Tensor], Tree]
    sign_mean: Callable[[Module, Any, Any], Tree]


def rule_from_sample_grads(
    accepts: Callable[[Module, Tensor], bool], sample_grads: Callable[[Module, Any, Any], Tree]
) -> Rule:
    """A rule that forms the per-sample gradients: for layers where these are no larger than the layer's output.

    Args:
        sample_grads: (module, input [N, ...], delta [N, ...]) -> leaves [N, ...].
    """

    def square_norms(module: Module, inputs: Any, delta: Any) -> Tensor:
        leaves = sample_grads(module, inputs, delta).values()
        return torch.stack([leaf.reshape(len(leaf), -1).square().sum(1) for leaf in leaves]).sum(0)

    def weighted_grad(module: Module, inputs: Any, delta: Any, weights: Tensor) -> Tree:
        leaves = sample_grads(module, inputs, delta)
        return {name: torch.tensordot(weights, leaf, 1) / len(weights) for name, leaf in leaves.items()}

    def sign_mean(module: Module, inputs: Any, delta: Any) -> Tree:
        return {name: leaf.sign().mean(0) for name, leaf in sample_grads(module, inputs, delta).items()}

    return Rule(accepts, square_norms, weighted_grad, sign_mean)


# The rule of any module, with its per-sample gradients (leaves [N, ...]) as the input and no delta.
SAMPLE_GRADS = rule_from_sample_grads(lambda *_: True, lambda _module, leaves, _delta: leaves)
