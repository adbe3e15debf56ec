"""Conv1d and Conv2d: the patch that an output position sees is the input of a Linear layer at that position."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight

from hpo.gradients.layer_rules import outer_products
from hpo.gradients.layer_rules.rule import Rule
from hpo.tree import Tree

Convolution = nn.Conv1d | nn.Conv2d


def _accepts(module: Convolution, inputs: Tensor) -> bool:
    return inputs.dim() == len(module.kernel_size) + 2 and module.padding_mode == "zeros"


def _paddings(module: Convolution) -> list[tuple[int, int]]:
    """Zeros (before, after) for every axis of positions, the first axis first."""
    if module.padding == "valid":
        return [(0, 0)] * len(module.kernel_size)
    if module.padding == "same":
        both = [dilation * (size - 1) for size, dilation in zip(module.kernel_size, module.dilation, strict=True)]
        return [(zeros // 2, zeros - zeros // 2) for zeros in both]
    return [(int(zeros), int(zeros)) for zeros in module.padding]


def _padded(module: Convolution, inputs: Tensor) -> Tensor:
    return F.pad(inputs, [zeros for pair in reversed(_paddings(module)) for zeros in pair])


def _patches(module: Convolution, inputs: Tensor, delta: Tensor) -> Tensor:
    """[N, G, I, T]: for G groups the I = channels × kernel values that each of T output positions sees.

    Slices, because under vmap indexing and `F.unfold` are 2–4 times as slow and `Tensor.unfold` has no batched
    backward at all.
    """
    padded = _padded(module, inputs)
    starts: list[list[slice]] = []
    for axis, positions in enumerate(delta.shape[2:]):
        stride, dilation = module.stride[axis], module.dilation[axis]
        first = [place * dilation for place in range(module.kernel_size[axis])]
        starts.append([slice(start, start + (positions - 1) * stride + 1, stride) for start in first])
    shifted = [padded[(slice(None), slice(None), *slices)] for slices in product(*starts)]
    return torch.stack(shifted, 2).unflatten(1, (module.groups, -1)).flatten(2, 3).flatten(3)


def _by_group(module: Convolution, delta: Tensor) -> Tensor:
    """[N, O, ...] -> [N, G, O / G, T]."""
    return delta.flatten(2).unflatten(1, (module.groups, -1))


def _square_norms(module: Convolution, inputs: Tensor, delta: Tensor) -> Tensor:
    squares = outer_products.square_norms(_by_group(module, delta), _patches(module, inputs, delta))
    return squares if module.bias is None else squares + delta.flatten(2).sum(2).square().sum(1)


def _weighted_grad(module: Convolution, inputs: Tensor, delta: Tensor, weights: Tensor) -> Tree:
    delta = delta * weights.reshape(-1, *[1] * (delta.dim() - 1))
    # The library's own backward pass sums over samples without patches: several times as fast on images.
    backward = conv1d_weight if isinstance(module, nn.Conv1d) else conv2d_weight
    settings = {"stride": module.stride, "dilation": module.dilation, "groups": module.groups}
    weight = backward(_padded(module, inputs), module.weight.shape, delta, **settings)
    leaves = {"weight": weight / len(delta)}
    if module.bias is not None:
        leaves["bias"] = delta.flatten(2).sum(2).mean(0)
    return leaves


def _sign_mean(module: Convolution, inputs: Tensor, delta: Tensor) -> Tree:
    leaves = {"weight": outer_products.sign_mean(_by_group(module, delta), _patches(module, inputs, delta))}
    leaves["weight"] = leaves["weight"].reshape(module.weight.shape)
    if module.bias is not None:
        leaves["bias"] = delta.flatten(2).sum(2).sign().mean(0)
    return leaves


convolution = Rule(_accepts, _square_norms, _weighted_grad, _sign_mean)
