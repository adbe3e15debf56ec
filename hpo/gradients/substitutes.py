"""Substitutes for PyTorch's functions that fail under `vmap` or when differentiated twice.

Some of them fail silently: `prelu` under two `vmap`s and the second derivative of `batch_norm` under one give wrong
numbers in PyTorch 2.13. Correct kernels stay in use.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from hpo.gradients import columns, indexing, recurrence
from hpo.gradients.shares import Share

Function = Callable[..., Any]
Leaf = Tensor | None  # a gain or a shift


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


def _mathematical(function: Function) -> Function:
    """Attention by the products and the softmax of its definition.

    On a GPU only where it is differentiated twice; on a CPU also for several models, which its kernel would compute
    one after the other.
    """

    def attention(*args: Any, **options: Any) -> Any:
        if args and args[0].is_cuda and not _twice():
            return function(*args, **options)
        with sdpa_kernel(SDPBackend.MATH):
            return function(*args, **options)

    return attention


def _prelu(inputs: Tensor, weight: Tensor) -> Tensor:
    shaped = weight.reshape(-1, *[1] * (inputs.dim() - 2)) if inputs.dim() > 1 and weight.numel() > 1 else weight
    return torch.where(inputs > 0, inputs, shaped * inputs)


def _hardsigmoid(inputs: Tensor, *_: Any, **__: Any) -> Tensor:
    return F.hardtanh(inputs / 6 + 0.5, 0.0, 1.0)


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


def _batch_norm(
    input: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Leaf = None,
    bias: Leaf = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training:  # it mixes samples, which `rule_check` refuses
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    shape = _by_channel(input)
    values = (input - running_mean.reshape(shape)) * (running_var.reshape(shape) + eps).rsqrt()
    return _scaled(values, weight, bias, shape)


def _instance_norm(
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
        assert running_mean is not None and running_var is not None
        return _batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    values, mean, variance = _standardised(input, list(range(2, input.dim())), eps)
    count = input[0, 0].numel()
    unbiased = variance * (count / max(1, count - 1))
    for running, new in ((running_mean, mean), (running_var, unbiased)):
        if running is not None:
            running.mul_(1 - momentum).add_(momentum * new.detach().flatten(1).mean(0))
    return _scaled(values, weight, bias, _by_channel(input))


def _group_norm(
    input: Tensor, num_groups: int, weight: Leaf = None, bias: Leaf = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    values = _standardised(input.unflatten(1, (num_groups, -1)).flatten(2), [2], eps)[0]
    return _scaled(values.reshape(input.shape), weight, bias, _by_channel(input))


def _layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Leaf = None, bias: Leaf = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    axes = list(range(-len(normalized_shape), 0))
    return _scaled(_standardised(input, axes, eps)[0], weight, bias, normalized_shape)


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
    F.batch_norm: (_by_sample_twice, _batch_norm),
    F.group_norm: (_by_sample_twice, _group_norm),
    F.layer_norm: (_by_sample_twice, _layer_norm),
    torch.group_norm: (_by_sample_twice, _group_norm),
    torch.layer_norm: (_by_sample_twice, _layer_norm),
    F.instance_norm: (_several_or_twice, _instance_norm),
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


def _shared_batch_norm(
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
    for running, new in ((running_mean, mean), (running_var, variance * (count / max(1, count - 1)))):
        if running is not None:
            running.mul_(1 - momentum).add_(momentum * new.detach())
    scale = share.spread({"": (variance + eps).rsqrt()})[""].reshape(shape)
    return _scaled(centred * scale, weight, bias, shape).to(input.dtype)


class Substitutes(TorchFunctionMode):
    """Replaces calls of PyTorch's functions whose kernels would fail or give wrong numbers."""

    def __init__(self, share: Share | None = None) -> None:
        """share: this process's, in a training pass of several processes."""
        super().__init__()
        self._share = share if share and share.count > 1 else None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._share and function is F.batch_norm:
            return _shared_batch_norm(self._share, *args, **(kwargs or {}))
        needed, substitute = _SUBSTITUTES.get(function, (None, None))
        if needed is not None and substitute is not None and needed():
            return substitute(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))
