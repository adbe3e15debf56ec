"""Linear: with a = the layer's input and δ = ∂loss_i/∂(its output), g_i is the outer product δ_i a_iᵀ.

Norms, mean signs and weighted means of such products do not need the products. Over [N, T, I] g_i is a sum of them.

The identities: Goodfellow, "Efficient per-example gradient computations", arXiv:1510.01799.
"""

from torch import Tensor, nn

from hpo.gradients.layer_rules import outer_products


def _positions_last(values: Tensor) -> Tensor:
    """[N, ..., F] -> [N, F, T]."""
    return values.flatten(1, -2).mT if values.dim() > 2 else values[..., None]


def _square_norms(module: nn.Linear, inputs: Tensor, delta: Tensor) -> Tensor:
    if inputs.dim() > 2:
        return _general.square_norms(module, inputs, delta)
    bias = 0.0 if module.bias is None else 1.0
    return delta.square().sum(-1) * (inputs.square().sum(-1) + bias)


_general = outer_products.outer_product_rule(
    accepts=lambda _, inputs: inputs.dim() >= 2,
    outputs=lambda _, delta: _positions_last(delta),
    features=lambda _, inputs, __: _positions_last(inputs),
    mean_weight_grad=lambda _, inputs, __, outputs: outer_products.mean(outputs, _positions_last(inputs)),
)
linear = _general._replace(square_norms=_square_norms)
