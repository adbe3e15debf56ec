"""One-dimensional convolutions of several models on a CPU as products of matrices.

`vmap` makes a convolution of K models one with K groups, which PyTorch computes at a hundredth of a product's speed
where the channels are few. Here the values that each output position sees are columns of one matrix per model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_NUMBERS = 2**22  # in the columns of a model: more would take much memory

Size = int | Sequence[int]


def _single(value: Size) -> int:
    return value if isinstance(value, int) else value[0]


def _conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Any = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """As PyTorch's, for inputs [N, C, L] and weights [O, C / groups, I]."""
    step, gap, kernel = _single(stride), _single(dilation), weight.shape[2]
    if input.dim() != 3 or input.is_cuda or isinstance(padding, str):
        return F.conv1d(input, weight, bias, stride, padding, dilation, groups)
    width = _single(padding)
    positions = (input.shape[2] + 2 * width - gap * (kernel - 1) - 1) // step + 1
    samples, channels = input.shape[:2]
    if positions < 1 or samples * channels * kernel * positions > MAX_NUMBERS:
        return F.conv1d(input, weight, bias, stride, padding, dilation, groups)
    # Channels first, as the product gives them: then no layer copies its inputs into another order.
    values = input.transpose(0, 1)
    values = F.pad(values, (width, width)) if width else values
    starts = [offset * gap for offset in range(kernel)]
    slices = [values[..., start : start + (positions - 1) * step + 1 : step] for start in starts]
    columns = torch.stack(slices, 1).reshape(groups, -1, samples * positions)
    outputs = weight.reshape(groups, len(weight) // groups, -1) @ columns
    outputs = outputs.view(len(weight), samples, positions).transpose(0, 1)
    return outputs if bias is None else outputs + bias[:, None]


SUBSTITUTES: dict[Any, Callable[..., Tensor]] = {F.conv1d: _conv1d}
