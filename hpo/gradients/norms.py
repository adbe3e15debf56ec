"""PyTorch's normalisations in operations that can be differentiated any number of times and in any order."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo.gradients.shares import Share

Leaf = Tensor | None  # a gain, a shift, or a running mean or variance


def _standardised(inputs: Tensor, axes: list[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs less their mean over some axes, over their standard deviation; and that mean and variance."""
    mean, variance = inputs.mean(axes, keepdim=True), inputs.var(axes, correction=0, keepdim=True)
    return (inputs - mean) * (variance + epsilon).rsqrt(), mean, variance


def _scaled(values: Tensor, weight: Leaf, bias: Leaf, shape: Sequence[int]) -> Tensor:
    """values · gain + shift; both are optional and are reshaped to broadcast."""
    values = values if weight is None else values * weight.reshape(shape)
    return values if bias is None else values + bias.reshape(shape)


def _by_channel(inputs: Tensor) -> list[int]:
    """The shape in which one value a channel broadcasts over inputs [N, C, ...]."""
    return [-1, *[1] * (inputs.dim() - 2)]


def _follow(running: Sequence[Leaf], new: tuple[Tensor, Tensor], count: int, momentum: float) -> None:
    """Moves a running mean and variance towards those [N or 1, C, 1 ...] of `count` values each."""
    mean, variance = new
    for kept, value in zip(running, (mean, variance * (count / max(1, count - 1))), strict=True):
        if kept is not None:
            kept.mul_(1 - momentum).add_(momentum * value.detach().flatten(1).mean(0))


def batch_norm(
    input: Tensor,
    running_mean: Leaf,
    running_var: Leaf,
    weight: Leaf = None,
    bias: Leaf = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    shape = _by_channel(input)
    if training:
        axes = [0, *range(2, input.dim())]
        values, mean, variance = _standardised(input, axes, eps)
        _follow((running_mean, running_var), (mean, variance), input.numel() // input.shape[1], momentum)
        return _scaled(values, weight, bias, shape)
    assert running_mean is not None and running_var is not None
    values = (input - running_mean.reshape(shape)) * (running_var.reshape(shape) + eps).rsqrt()
    return _scaled(values, weight, bias, shape)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Leaf = None,
    bias: Leaf = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    values, mean, variance = _standardised(input, list(range(2, input.dim())), eps)
    _follow((running_mean, running_var), (mean, variance), input[0, 0].numel(), momentum)
    return _scaled(values, weight, bias, _by_channel(input))


def group_norm(
    input: Tensor, num_groups: int, weight: Leaf = None, bias: Leaf = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    values = _standardised(input.unflatten(1, (num_groups, -1)).flatten(2), [2], eps)[0]
    return _scaled(values.reshape(input.shape), weight, bias, _by_channel(input))


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Leaf = None, bias: Leaf = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    axes = list(range(-len(normalized_shape), 0))
    return _scaled(_standardised(input, axes, eps)[0], weight, bias, normalized_shape)


def shared_batch_norm(
    share: Share,
    input: Tensor,
    running_mean: Leaf,
    running_var: Leaf,
    weight: Leaf = None,
    bias: Leaf = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """BatchNorm with the statistics of the whole minibatch, of which this process has a share."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    shape, axes = _by_channel(input), [0, *range(2, input.dim())]
    values = input.to(torch.promote_types(input.dtype, torch.float32))
    count = share.count * input.numel() // input.shape[1]

    def mean_of(values: Tensor) -> Tensor:
        return share.total(values.sum(axes))[0] / count

    mean = mean_of(values)
    centred = values - share.spread({"": mean})[""].reshape(shape)
    variance = mean_of(centred.square())
    _follow((running_mean, running_var), (mean[None], variance[None]), count, momentum)
    scale = share.spread({"": (variance + eps).rsqrt()})[""].reshape(shape)
    return _scaled(centred * scale, weight, bias, shape).to(input.dtype)
