"""Per-sample gradients that are sums of outer products over positions, g_i = Σ_t δ_it a_itᵀ.

A convolution has such gradients (a_it is the patch that output position t sees), and so has a Linear layer over
[N, T, I]. With D [O, T] and A [I, T] of one sample, g = D Aᵀ has O·I entries, and ‖g‖² = Σ (DᵀD)∘(AᵀA) needs T·T.

The identity: Rochette et al., "Efficient per-example gradient computations in convolutional neural networks",
arXiv:1912.06015; Li et al., "Large language models can be strong differentially private learners", arXiv:2110.05679.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hpo.gradients.layer_rules.rule import Module, Rule
from hpo.tree import Tree

# Entries of per-sample gradients that are formed at once where they are summed over samples.
ENTRIES_AT_ONCE = 2**22


def outer_product_rule(
    accepts: Callable[[Module, Tensor], bool],
    outputs: Callable[[Module, Tensor], Tensor],
    features: Callable[[Module, Tensor, Tensor], Tensor],
    mean_weight_grad: Callable[[Module, Tensor, Tensor, Tensor], Tensor],
) -> Rule:
    """The rule of a layer with a `weight` whose gradients are such sums, and with or without a `bias`.

    Args:
        outputs: (module, delta) -> D [N, ..., O, T]. features: (module, input, delta) -> A [N, ..., I, T].
        mean_weight_grad: (module, input, delta, D) -> mean_i g_i of the weight.
    """

    def rule_square_norms(module: Module, inputs: Tensor, delta: Tensor) -> Tensor:
        by_position = outputs(module, delta)
        squares = square_norms(by_position, features(module, inputs, delta))
        return squares if module.bias is None else squares + _bias_grads(by_position).square().sum(1)

    def rule_weighted_grad(module: Module, inputs: Tensor, delta: Tensor, weights: Tensor) -> Tree:
        delta = delta * weights.reshape(-1, *[1] * (delta.dim() - 1))
        by_position = outputs(module, delta)
        leaves = {"weight": mean_weight_grad(module, inputs, delta, by_position)}
        return leaves if module.bias is None else leaves | {"bias": _bias_grads(by_position).mean(0)}

    def rule_sign_mean(module: Module, inputs: Tensor, delta: Tensor) -> Tree:
        by_position = outputs(module, delta)
        leaves = {"weight": sign_mean(by_position, features(module, inputs, delta)).reshape(module.weight.shape)}
        return leaves if module.bias is None else leaves | {"bias": _bias_grads(by_position).sign().mean(0)}

    return Rule(accepts, rule_square_norms, rule_weighted_grad, rule_sign_mean)


def _bias_grads(outputs: Tensor) -> Tensor:
    """Gradients [N, O] of a bias."""
    return outputs.sum(-1).flatten(1)


def gram_is_smaller(outputs: int, features: int, positions: int) -> bool:
    """Whether two T × T products of a sample take fewer multiplications than its O × I gradient."""
    return positions * (outputs + features) < outputs * features


def square_norms(outputs: Tensor, features: Tensor) -> Tensor:
    """‖g_i‖² [N] for D [N, ..., O, T] and A [N, ..., I, T]; axes between are further independent blocks."""
    if gram_is_smaller(outputs.shape[-2], *features.shape[-2:]):
        squares = (outputs.mT @ outputs) * (features.mT @ features)
    else:
        squares = (outputs @ features.mT).square()
    return squares.flatten(1).sum(1)


def mean(outputs: Tensor, features: Tensor) -> Tensor:
    """mean_i g_i [..., O, I]."""
    return torch.einsum("n...ot,n...it->...oi", outputs, features) / len(outputs)


def sign_mean(outputs: Tensor, features: Tensor) -> Tensor:
    """mean_i sign(g_i) [..., O, I]; with more than one position no shorter way than forming g_i is known."""
    if outputs.shape[-1] == 1:
        # The signs of an outer product are the outer product of the signs.
        return mean(outputs.sign(), features.sign())
    entries = outputs[0, ..., 0].numel() * features.shape[-2]
    at_once = max(1, ENTRIES_AT_ONCE // entries)
    parts = zip(outputs.split(at_once), features.split(at_once), strict=True)
    sums = [(some_outputs @ some_features.mT).sign().sum(0) for some_outputs, some_features in parts]
    return torch.stack(sums).sum(0) / len(outputs)
