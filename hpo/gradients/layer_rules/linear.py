"""Linear: with a = the layer's input and δ = ∂loss_i/∂(its output), g_i is the outer product δ_i a_iᵀ.

Norms, mean signs and weighted means of such products need no product at all. Over [N, T, I] g_i is a sum of them.

The identities: Goodfellow, "Efficient per-example gradient computations", arXiv:1510.01799.
"""

from torch import Tensor, nn

from hpo.gradients.layer_rules import outer_products
from hpo.gradients.layer_rules.rule import Rule
from hpo.tree import Tree


def _accepts(_: nn.Linear, inputs: Tensor) -> bool:
    return inputs.dim() >= 2


def _positions_last(values: Tensor) -> Tensor:
    """[N, ..., F] -> [N, F, T]."""
    return values.flatten(1, -2).mT if values.dim() > 2 else values[..., None]


def _square_norms(module: nn.Linear, inputs: Tensor, delta: Tensor) -> Tensor:
    if inputs.dim() == 2:
        bias = 0.0 if module.bias is None else 1.0
        return delta.square().sum(-1) * (inputs.square().sum(-1) + bias)
    delta, inputs = _positions_last(delta), _positions_last(inputs)
    squares = outer_products.square_norms(delta, inputs)
    return squares if module.bias is None else squares + delta.sum(-1).square().sum(-1)


def _weighted_grad(module: nn.Linear, inputs: Tensor, delta: Tensor, weights: Tensor) -> Tree:
    delta, inputs = _positions_last(delta) * weights[:, None, None], _positions_last(inputs)
    leaves = {"weight": outer_products.mean(delta, inputs)}
    if module.bias is not None:
        leaves["bias"] = delta.sum(-1).mean(0)
    return leaves


def _sign_mean(module: nn.Linear, inputs: Tensor, delta: Tensor) -> Tree:
    delta, inputs = _positions_last(delta), _positions_last(inputs)
    leaves = {"weight": outer_products.sign_mean(delta, inputs)}
    if module.bias is not None:
        leaves["bias"] = delta.sum(-1).sign().mean(0)
    return leaves


linear = Rule(_accepts, _square_norms, _weighted_grad, _sign_mean)
