"""GroupNorm and LayerNorm: with x̂ = the normalised input, g_i of the gain is Σ_t δ_it x̂_it, of the shift Σ_t δ_it.

Both are as small as the layer's width and formed as they are.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hpo.gradients.layer_rules.rule import rule_of_small_leaves
from hpo.tree import Tree


def _group_norm(module: nn.GroupNorm, inputs: Tensor, delta: Tensor) -> Tree:
    """Of inputs [N, C, ...]: leaves [N, C]."""
    delta = delta.reshape(*delta.shape[:2], -1)
    normalised = F.group_norm(inputs, module.num_groups, eps=module.eps).reshape(delta.shape)
    leaves = {"weight": (delta * normalised).sum(-1), "bias": delta.sum(-1)}
    return _own(module, leaves)


def _layer_norm(module: nn.LayerNorm, inputs: Tensor, delta: Tensor) -> Tree:
    """Of inputs [N, ..., *S] with normalised axes S: leaves [N, *S]."""
    shape = module.normalized_shape
    normalised = F.layer_norm(inputs, shape, eps=module.eps)
    weighted, plain = (values.reshape(len(values), -1, *shape).sum(1) for values in (delta * normalised, delta))
    return _own(module, {"weight": weighted, "bias": plain})


def _own(module: nn.Module, leaves: Tree) -> Tree:
    """Without the leaves that the module was made without."""
    return {name: leaf for name, leaf in leaves.items() if getattr(module, name) is not None}


group_norm = rule_of_small_leaves(lambda _, inputs: inputs.dim() >= 2, _group_norm)
layer_norm = rule_of_small_leaves(lambda module, inputs: inputs.dim() > len(module.normalized_shape), _layer_norm)
