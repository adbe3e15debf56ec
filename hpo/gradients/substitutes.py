"""Substitutes for PyTorch's functions that fail under `vmap` or when differentiated twice.

Some of them fail silently and give wrong numbers in PyTorch 2.13: `prelu` under two `vmap`s, the second derivative of
`batch_norm` under one, and derivatives of a `jvp` of the norms. Correct kernels stay in use.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from hpo.gradients import columns, indexing, norms, recurrence
from hpo.gradients.shares import Share

Function = Callable[..., Any]


def _count(kind: TransformType) -> int:
    """How many `vmap`s or `grad`s are active."""
    return sum(interpreter.key() == kind for interpreter in get_interpreter_stack() or ())


def _several() -> bool:
    return _count(TransformType.Vmap) > 0


def _several_twice() -> bool:
    return _count(TransformType.Vmap) > 1


def _twice() -> bool:
    return _count(TransformType.Grad) > 1


def _several_or_twice() -> bool:
    return _several() or _twice()


def _stepwise() -> bool:
    return _several_or_twice() or recurrence.RECORDING.record is not None


def _by_sample_twice() -> bool:
    """Whether the gradients of single samples are differentiated: a `vmap` between two `grad`s."""
    kinds = [interpreter.key() for interpreter in get_interpreter_stack() or ()]
    if TransformType.Grad not in kinds:
        return False
    inner = kinds[kinds.index(TransformType.Grad) :]
    return TransformType.Vmap in inner and TransformType.Grad in inner[inner.index(TransformType.Vmap) :]


def _jvp_differentiated() -> bool:
    """Whether the derivative along a direction is differentiated: a `jvp` within a `grad` or another `jvp`."""
    kinds = [interpreter.key() for interpreter in get_interpreter_stack() or ()]
    derivatives = [kind for kind in kinds if kind in (TransformType.Grad, TransformType.Jvp)]
    return TransformType.Jvp in derivatives[1:]


def _norm_fails() -> bool:
    return _by_sample_twice() or _jvp_differentiated()


def _instance_norm_fails() -> bool:
    return _several_or_twice() or _jvp_differentiated()


def _mathematical(function: Function) -> Function:
    """Attention by the products and the softmax of its definition.

    On a GPU only where it is differentiated twice; on a CPU also for several models, which its kernel would compute
    one after the other.
    """

    def attention(query: Tensor, *args: Any, **options: Any) -> Any:
        if query.is_cuda and not _twice():
            return function(query, *args, **options)
        with sdpa_kernel(SDPBackend.MATH):
            if torch.is_autocast_enabled(query.device.type):
                return _in_bfloat16(function, query, *args, **options)
            return function(query, *args, **options)

    return attention


def _in_bfloat16(function: Function, query: Tensor, *args: Any, **options: Any) -> Any:
    """The same under autocast.

    The sum of values is computed in float32 as PyTorch does, whose own function then mixes both types in its products.
    """
    if function is F.multi_head_attention_forward:  # it has the products itself where the weights are wanted as well
        wanted = options.get("need_weights", True)
        outputs, weights = function(query, *args, **options | {"need_weights": True})
        return outputs, weights if wanted else None
    query, args, options = tree_map(_rounded, (query, args, options))
    with torch.autocast(query.device.type, enabled=False):
        return function(query, *args, **options).bfloat16()


def _rounded(operand: Any) -> Any:
    is_real = isinstance(operand, Tensor) and operand.is_floating_point()
    return operand.bfloat16().float() if is_real else operand


def _prelu(inputs: Tensor, weight: Tensor) -> Tensor:
    shaped = weight.reshape(-1, *[1] * (inputs.dim() - 2)) if inputs.dim() > 1 and weight.numel() > 1 else weight
    return torch.where(inputs > 0, inputs, shaped * inputs)


def _hardsigmoid(inputs: Tensor, *_: Any, **__: Any) -> Tensor:
    return F.hardtanh(inputs / 6 + 0.5, 0.0, 1.0)


def _embedding_bag(function: Function) -> Function:
    def bags(input: Tensor, weight: Tensor, *args: Any, **options: Any) -> Tensor:
        names = ("offsets", "max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse", "per_sample_weights")
        options |= dict(zip(names, args, strict=False))
        mode, padding = options.get("mode", "mean"), options.get("padding_idx")
        if input.dim() != 2 or padding is not None or options.get("max_norm") or options.get("scale_grad_by_freq"):
            return function(input, weight, **options)
        rows, factors = F.embedding(input, weight), options.get("per_sample_weights")
        rows = rows if factors is None else rows * factors[..., None]
        return rows.amax(1) if mode == "max" else rows.mean(1) if mode == "mean" else rows.sum(1)

    return bags


def _vdot(first: Tensor, second: Tensor) -> Tensor:
    return (first.conj() * second).sum()


def _normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    result = F.normalize(input, p, dim, eps)
    return result if out is None else out.copy_(result)


# Function -> (when its kernel fails, its substitute).
_SUBSTITUTES: dict[Any, tuple[Callable[[], bool], Function]] = {
    F.scaled_dot_product_attention: (_several_or_twice, _mathematical(F.scaled_dot_product_attention)),
    F.multi_head_attention_forward: (_several_or_twice, _mathematical(F.multi_head_attention_forward)),
    F.prelu: (_several_twice, _prelu),
    torch.prelu: (_several_twice, _prelu),
    Tensor.prelu: (_several_twice, _prelu),
    F.hardsigmoid: (_twice, _hardsigmoid),
    F.batch_norm: (_norm_fails, norms.batch_norm),
    F.group_norm: (_by_sample_twice, norms.group_norm),
    F.layer_norm: (_norm_fails, norms.layer_norm),
    torch.group_norm: (_by_sample_twice, norms.group_norm),
    torch.layer_norm: (_norm_fails, norms.layer_norm),
    F.instance_norm: (_instance_norm_fails, norms.instance_norm),
    F.embedding_bag: (_twice, _embedding_bag(F.embedding_bag)),
    F.normalize: (_several, _normalize),
    torch.vdot: (_several, _vdot),
    # PyTorch asks this before it packs padded sequences, which `vmap` does not allow.
    torch._nested_tensor_from_mask_left_aligned: (_several, lambda *_: False),
    torch.dot: (_several, _vdot),
    **{function: (_several, other) for function, other in columns.SUBSTITUTES.items()},
    **{function: (_stepwise, other) for function, other in recurrence.SUBSTITUTES.items()},
    **{function: (_several_or_twice, other) for function, other in indexing.SUBSTITUTES.items()},
}
_MIXED_NORMS = {F.batch_norm, F.layer_norm, F.rms_norm, torch.layer_norm, torch.rms_norm}


class Substitutes(TorchFunctionMode):
    """Replaces calls of PyTorch's functions whose kernels would fail or give wrong numbers."""

    def __init__(self, share: Share | None = None) -> None:
        """share: this process's, in a training pass of several processes."""
        super().__init__()
        self._share = share if share and share.count > 1 else None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _MIXED_NORMS and args and args[0].dtype == torch.bfloat16 and not args[0].is_cuda:
            # The weights are float32. On a CPU the derivative of such a mixture fails under `vmap`.
            return self.__torch_function__(function, types, (args[0].float(), *args[1:]), kwargs).bfloat16()
        if self._share and function is F.batch_norm:
            return norms.shared_batch_norm(self._share, *args, **(kwargs or {}))
        needed, substitute = _SUBSTITUTES.get(function, (None, None))
        if needed is not None and substitute is not None and needed():
            return substitute(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))
