"""The layer rules by layer type; a type that is not listed, subclasses included, has none."""

from torch import nn

from hpo.gradients.layer_rules.convolution import convolution
from hpo.gradients.layer_rules.linear import linear
from hpo.gradients.layer_rules.normalization import group_norm, layer_norm
from hpo.gradients.layer_rules.rule import Rule

RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
}
