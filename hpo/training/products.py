"""Matrix products by another library where it is faster than PyTorch's: the same sums, rounded in another order.

On a CPU PyTorch multiplies by Intel's MKL, which uses AVX-512 on Intel's processors only. On AMD's, NumPy's OpenBLAS
is twice as fast at 64 × 256 by 256 × 256, and up to six times at thin matrices. Where it is held to older instructions,
as by OPENBLAS_CORETYPE, PyTorch's oneDNN is 1.5 times as fast at large matrices.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo.dispatch import DispatchMode
from hpo.processor import is_amd, openblas_has_avx512, openblas_threads

aten = torch.ops.aten
MIN_MULTIPLICATIONS = 2**16  # of a call: below, the call itself takes longer than the product
ONEDNN_MIN_SIZE = 64  # rows, columns and terms of a sum

Kernel = Callable[..., Tensor]


def faster_product(function: Any, args: Sequence[Any]) -> Kernel | None:
    """Another function for products of tensors like these; None where PyTorch's is as fast.

    The processor decides, and no measurement, so that the same machine gives the same numbers.

    Args:
        function: an operation of PyTorch. args: those of one call of it.
    """
    if function not in _PRODUCTS or not _others_may_be_faster():
        return None
    first, second = args[-2:]
    if first.numel() * second.shape[-1] < MIN_MULTIPLICATIONS or not all(map(_is_plain, args)):
        return None
    is_large = min(*first.shape[-2:], second.shape[-1]) >= ONEDNN_MIN_SIZE and first.dtype == torch.float32
    if function is aten.bmm.default and is_large and onednn_is_fastest():
        return multiply_by_onednn
    suits_openblas = openblas_threads() == 1 and _has_contiguous_lines(first) and _has_contiguous_lines(second)
    return _PRODUCTS[function] if suits_openblas else None


def faster_products() -> AbstractContextManager[Any]:
    """A context in which such functions compute the products of tensors that need no gradient."""
    return _FasterProducts() if _others_may_be_faster() else nullcontext()


class _FasterProducts(DispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kernel = None if kwargs else faster_product(function, args)
        if kernel is None:
            return function(*args, **(kwargs or {}))
        with np.errstate(all="ignore"):  # as in `Trace`: a model that diverges is found by its loss
            return kernel(*args)


def _others_may_be_faster() -> bool:
    return torch.get_num_threads() == 1 and is_amd()


def onednn_is_fastest() -> bool:
    """Whether only oneDNN uses AVX-512."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and not openblas_has_avx512()


def _is_plain(operand: Tensor) -> bool:
    is_real = operand.dtype in (torch.float32, torch.float64)
    return is_real and operand.device.type == "cpu" and not operand.requires_grad


def _has_contiguous_lines(operand: Tensor) -> bool:
    """Whether rows or columns are contiguous; NumPy multiplies others by a slow loop of its own."""
    (rows, columns), (down, right) = operand.shape[-2:], operand.stride()[-2:]
    return (right == 1 and down >= columns) or (down == 1 and right >= rows)


def multiply(first: Tensor, second: Tensor) -> Tensor:
    """[..., M, N] of [..., M, I] and [..., I, N], by OpenBLAS."""
    if torch._C._len_torch_dispatch_stack():  # modes that count operations see PyTorch's
        return torch.matmul(first, second)
    result = first.new_empty((*first.shape[:-1], second.shape[-1]))
    np.matmul(first.numpy(), second.numpy(), out=result.numpy())
    return result


def _add_product(bias: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """As `torch.addmm`: bias + first · second."""
    return multiply(first, second).add_(bias)


def multiply_by_onednn(first: Tensor, second: Tensor) -> Tensor:
    """[K, M, N] of [K, M, I] and [K, I, N]; float32."""
    if torch._C._len_torch_dispatch_stack():
        return torch.bmm(first, second)
    linear = torch.ops.mkldnn._linear_pointwise.default
    pairs = zip(first.unbind(0), second.mT.unbind(0), strict=True)
    return torch.stack([linear(one, other, None, "none", [], "") for one, other in pairs])


_PRODUCTS: dict[Any, Kernel] = {
    aten.mm.default: multiply,
    aten.bmm.default: multiply,
    aten.addmm.default: _add_product,
}
