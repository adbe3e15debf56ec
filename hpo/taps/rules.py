"""The table of rules, by layer type; a type that is not in it, subclasses included, has none."""

from torch import nn

from hpo.taps.convolution import convolution
from hpo.taps.linear import linear
from hpo.taps.normalization import group_norm, layer_norm
from hpo.taps.rule import Rule

RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
}
