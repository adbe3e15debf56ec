"""One-hot rows and assignments by a mask, without reading values, which differ between the models of a population."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """As PyTorch's; without num_classes, or for a class out of range on a CPU, PyTorch's RuntimeError."""
    if num_classes < 1:
        return F.one_hot(tensor, num_classes)
    rows = torch.zeros(*tensor.shape, num_classes, dtype=torch.int64, device=tensor.device)
    return rows.scatter(-1, tensor.unsqueeze(-1), 1)


def _assign(tensor: Tensor, index: Any, value: Any) -> None:
    """Fills in one number where a mask is true; PyTorch does every other assignment."""
    by_mask = isinstance(index, Tensor) and index.dtype == torch.bool and tensor.is_floating_point()
    if by_mask and (isinstance(value, int | float) or (isinstance(value, Tensor) and not value.dim())):
        tensor.masked_fill_(index.reshape(*index.shape, *[1] * (tensor.dim() - index.dim())), value)
    else:
        tensor[index] = value


SUBSTITUTES: dict[Any, Callable[..., Any]] = {F.one_hot: _one_hot, Tensor.__setitem__: _assign}
