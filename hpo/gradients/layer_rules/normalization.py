"""GroupNorm and LayerNorm: with x̂ = the normalised input, g_i of the gain is Σ_t δ_it x̂_it, of the shift Σ_t δ_it."""

import torch.nn.functional as F
from torch import Tensor, nn

from hpo.gradients.layer_rules.rule import rule_from_sample_grads
from hpo.tree import Tree


def _group_norm(module: nn.GroupNorm, inputs: Tensor, delta: Tensor) -> Tree:
    """Leaves [N, C] for inputs [N, C, ...]."""
    delta = delta.reshape(*delta.shape[:2], -1)
    normalised = F.group_norm(inputs, module.num_groups, eps=module.eps).reshape(delta.shape)
    return _existing(module, {"weight": (delta * normalised).sum(-1), "bias": delta.sum(-1)})


def _layer_norm(module: nn.LayerNorm, inputs: Tensor, delta: Tensor) -> Tree:
    """Leaves [N, *S] for inputs [N, ..., *S] with normalised axes S."""
    shape = module.normalized_shape
    normalised = F.layer_norm(inputs, shape, eps=module.eps)
    gain, shift = (values.reshape(len(values), -1, *shape).sum(1) for values in (delta * normalised, delta))
    return _existing(module, {"weight": gain, "bias": shift})


def _existing(module: nn.Module, leaves: Tree) -> Tree:
    """Only the leaves that the module has: gain and shift are optional."""
    return {name: leaf for name, leaf in leaves.items() if getattr(module, name) is not None}


group_norm = rule_from_sample_grads(lambda _, inputs: inputs.dim() >= 2, _group_norm)
layer_norm = rule_from_sample_grads(lambda module, inputs: inputs.dim() > len(module.normalized_shape), _layer_norm)
