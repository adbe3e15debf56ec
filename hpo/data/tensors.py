"""Arrays, lists and tensors as dense tensors of finite numbers, or one sentence that says what is wrong with them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.user_code.messages import describe_value

STORAGE_TYPES = (torch.uint16, torch.uint32, torch.uint64)  # PyTorch stores these and computes almost nothing with them


def as_tensor(name: str, given: Any) -> Tensor:
    """A dense tensor of the values; those of arrays and lists are copied only where needed.

    Raises:
        UsageError: it is sparse, no array of numbers, or a single number.
    """
    if isinstance(given, Tensor):
        if given.layout != torch.strided or given.is_nested:
            raise UsageError(f"data: {name} is a sparse or nested tensor; return a dense one")
        tensor = given.detach()
    else:
        try:
            filled = given.filled(np.nan) if isinstance(given, np.ma.MaskedArray) else given
            array = np.require(filled, requirements=["C", "W"])
            tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        except (TypeError, ValueError, RuntimeError):
            raise UsageError(
                f"data: {name} is {describe_value(given)}, which cannot become a tensor; {_conversion(name, given)}"
            ) from None
    if not tensor.dim():
        raise UsageError(f"data: {name} is a single number; return one per sample, along the first axis")
    return tensor


def as_default_floats(given: Mapping[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those from numpy's float64 in PyTorch's default type unless it is too coarse for one of them.

    Args:
        given: what the tensors were made from, by name; a float64 tensor keeps its type.
    """
    doubles = {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.dtype == torch.float64 and not isinstance(given[name], Tensor)
    }
    if any(map(_needs_double, doubles.values())):
        return tensors
    return tensors | {name: tensor.to(torch.get_default_dtype()) for name, tensor in doubles.items()}


def finite(name: str, tensor: Tensor) -> Tensor:
    """The tensor in a type with which PyTorch computes; raises UsageError if it contains NaN or infinity."""
    tensor = tensor.long() if tensor.dtype in STORAGE_TYPES else tensor
    # A sum that is finite takes a tenth of the time, and shows that all values are.
    if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.sum().isfinite():
        rows = ~tensor.reshape(len(tensor), -1).isfinite().all(1)
        if rows.any():
            raise UsageError(
                f"data: {name}[{int(rows.nonzero()[0])}] contains NaN or infinity ({share(rows)}); replace it, or "
                "remove the sample"
            )
    return tensor


def share(rows: Tensor) -> str:
    """ "3 of 40 samples"."""
    return f"{int(rows.sum())} of {len(rows)} samples"


def type_name(tensor: Any) -> str:
    """The type of a tensor's values in words: float32."""
    return str(tensor.dtype).removeprefix("torch.")


def _needs_double(values: Tensor) -> bool:
    """Whether PyTorch's default type is too coarse or too small for a column, such as seconds since 1970."""
    if not len(values):
        return False
    columns = values.reshape(len(values), -1)
    error = (columns.to(torch.get_default_dtype()).double() - columns).abs().amax(0)
    spread, size = columns.std(0, correction=0), columns.abs().amax(0)
    return bool(((error > 1e-3 * spread) & (spread > 1e-9 * size)).any())


def _conversion(name: str, given: Any) -> str:
    """Advice for a value that cannot become a tensor."""
    if not isinstance(given, Iterable) or isinstance(given, Mapping | Iterator):
        return "return a tensor or an array"
    if name.endswith("labels"):
        return f"return class numbers, such as numpy.unique({name}, return_inverse=True)[1]"
    return "return only numbers, equally many for every sample (pad shorter samples)"
