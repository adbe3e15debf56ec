"""Layers that several networks share, and checks of the networks' settings."""

import math
from typing import Any

from torch import nn

from hpo.errors import UsageError, is_fraction_below_one, require, require_whole
from hpo.models.dropout import Dropout


def check_whole(network: Any, *fields: str) -> None:
    """Raises UsageError unless the fields are whole numbers of at least 1."""
    for field in fields:
        require_whole(f"{type(network).__name__}: {field}", getattr(network, field))


def check_dropout(network: Any) -> None:
    """Raises UsageError unless `dropout` is a probability below 1."""
    value, name = network.dropout, f"{type(network).__name__}: dropout"
    require(is_fraction_below_one(value), name, value, "a number from 0 to below 1")


def check_norm(network: Any, *choices: str | None) -> None:
    """Raises UsageError unless `norm` is one of the choices."""
    if network.norm not in choices:
        words = ", ".join(repr(choice) for choice in choices)
        raise UsageError(f"{type(network).__name__}: norm is {network.norm!r}; choose from {words}")


def check_init(network: Any) -> None:
    """Raises UsageError unless `init` is "he" or "pytorch"."""
    require(network.init in ("he", "pytorch"), f"{type(network).__name__}: init", network.init, "'he' or 'pytorch'")


def initialise(network: nn.Module, init: str) -> None:
    """Gives convolutions and classifier their initial weights.

    Args:
        init: "he" for convolutions with He's normal distribution over fan-out and biases of 0 (He et al., "Delving deep
            into rectifiers", arXiv:1502.01852, in the form of the published training code of residual networks);
            "pytorch" for PyTorch's own, whose 3 × 3 convolutions have a standard deviation 1/√6 times as large.
    """
    if init == "pytorch":
        return
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def dropout_layers(probability: float) -> list[nn.Module]:
    """A Dropout layer, or none at probability 0."""
    return [Dropout(probability)] if probability else []


def norm_of_images(norm: str, channels: int, groups: int) -> nn.Module:
    """BatchNorm ("batch") or GroupNorm ("group") over [N, channels, H, W].

    `groups` is used where it divides the channels into groups of at least two, otherwise the largest common divisor:
    a group of one channel on a 1 × 1 map would always be normalised to 0.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(groups, max(1, channels // 2)), channels)
