"""Conv1d and Conv2d: the patch that an output position sees is the input of a Linear layer at that position."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight

from hpo.gradients.layer_rules.outer_products import outer_product_rule

Convolution = nn.Conv1d | nn.Conv2d


def _accepts(module: Convolution, inputs: Tensor) -> bool:
    return inputs.dim() == len(module.kernel_size) + 2 and module.padding_mode == "zeros"


def _padded(module: Convolution, inputs: Tensor) -> Tensor:
    if module.padding == "valid":
        return inputs
    if module.padding == "same":
        widths = [dilation * (size - 1) for size, dilation in zip(module.kernel_size, module.dilation, strict=True)]
        pairs = [(width // 2, width - width // 2) for width in widths]
    else:
        pairs = [(int(width), int(width)) for width in module.padding]
    return F.pad(inputs, [width for pair in reversed(pairs) for width in pair])  # F.pad takes the last axis first


def _patches(module: Convolution, inputs: Tensor, delta: Tensor) -> Tensor:
    """[N, G, I, T]: for G groups the I = channels × kernel values that each of T output positions sees.

    Slices, because under vmap indexing and `F.unfold` are 2–4 times as slow and `Tensor.unfold` has no batched
    backward.
    """
    padded = _padded(module, inputs)
    slices_by_axis: list[list[slice]] = []
    for axis, positions in enumerate(delta.shape[2:]):
        stride, dilation = module.stride[axis], module.dilation[axis]
        starts = [offset * dilation for offset in range(module.kernel_size[axis])]
        slices_by_axis.append([slice(start, start + (positions - 1) * stride + 1, stride) for start in starts])
    shifted = [padded[(slice(None), slice(None), *slices)] for slices in product(*slices_by_axis)]
    return torch.stack(shifted, 2).unflatten(1, (module.groups, -1)).flatten(2, 3).flatten(3)


def _outputs(module: Convolution, delta: Tensor) -> Tensor:
    """[N, O, ...] -> [N, G, O / G, T]."""
    return delta.flatten(2).unflatten(1, (module.groups, -1))


def _mean_weight_grad(module: Convolution, inputs: Tensor, delta: Tensor, _: Tensor) -> Tensor:
    # The library's own backward pass sums over samples without patches: several times as fast on images.
    backward = conv1d_weight if isinstance(module, nn.Conv1d) else conv2d_weight
    settings = {"stride": module.stride, "dilation": module.dilation, "groups": module.groups}
    return backward(_padded(module, inputs), module.weight.shape, delta, **settings) / len(delta)


convolution = outer_product_rule(_accepts, _outputs, _patches, _mean_weight_grad)
