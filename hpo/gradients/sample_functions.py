"""Calls of losses and metrics of single samples, whose values are checked."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from hpo.errors import UsageError
from hpo.gradients.substitutes import Substitutes
from hpo.user_code.failures import naming
from hpo.user_code.messages import UserCodeError, call_user_code, describe_value

SampleFunction = Callable[[Tensor, Tensor], Any]  # (outputs [N, ...], labels [N, ...]) -> should be [N]


def compute_losses(loss: SampleFunction, outputs: Tensor, labels: Tensor) -> Tensor:
    """Losses [N]; raises UsageError unless the loss gives one float a sample."""
    with Substitutes(), naming("the loss", outputs, labels):
        losses = call_user_code("the loss", "loss(outputs, labels)", loss, outputs, labels)
    if not isinstance(losses, Tensor) or losses.shape != labels.shape[:1] or not losses.is_floating_point():
        raise UserCodeError(
            f"the loss gives {describe_value(losses)} for {len(labels)} samples{describe_shapes(outputs, labels)}; "
            "return one float a sample, a tensor [N], without taking the mean over the samples"
        )
    return losses


def compute_metric(name: str, metric: SampleFunction, outputs: Tensor, labels: Tensor) -> Tensor:
    """Values [N]; raises UsageError unless a custom metric gives one real number a sample."""
    with Substitutes(), naming(f"metric {name!r}", outputs, labels):
        values = call_user_code(f"metric {name!r}", "metric(outputs, labels)", metric, outputs, labels)
    if not isinstance(values, Tensor) or values.shape != labels.shape[:1] or values.is_complex():
        raise UsageError(
            f"metric {name!r} gives {describe_value(values)} for {len(labels)} samples"
            f"{describe_shapes(outputs, labels)}; return one real number a sample, a tensor [N], or use "
            "hpo.whole(function) for one number of all samples"
        )
    return values


def describe_shapes(outputs: Tensor, labels: Tensor) -> str:
    """The shapes, where outputs and labels of different shapes may have been broadcast."""
    same = labels.dim() == 1 and outputs.dim() == 2 and outputs.shape[1] > 1
    column = "; use outputs[:, 0]" if outputs.shape[1:] == (1,) and labels.dim() == 1 else ""
    return "" if same else f" (outputs {tuple(outputs.shape)}, labels {tuple(labels.shape)}{column})"
