"""Metrics of a set of samples: sums over chunks of it, and functions of all its outputs and labels."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.gradients.sample_functions import SampleFunction, compute_losses, compute_metric
from hpo.gradients.shares import Share
from hpo.models.entropies import count_tokens, one_number_per_target
from hpo.models.losses import SampleLoss, is_cross_entropy
from hpo.models.task_metrics import RATIOS, finish_metrics, mean_of
from hpo.tree import Tree
from hpo.user_code.failures import naming
from hpo.user_code.messages import call_user_code, describe_value
from hpo.user_code.metrics import Whole, is_accumulator

# name → what each sample adds to the numerator, [N, ...], and to the denominator, [N], if that is not 1
Ratios = dict[str, tuple[Tensor, ...]]


def sample_ratios(
    task: str, loss: SampleLoss, metrics: Mapping[str, SampleFunction], outputs: Tensor, labels: Tensor
) -> Ratios:
    """What one model's samples add to the loss, to the metrics of the task and to custom metrics of single samples.

    In float32 at least: float16 and bfloat16 cannot hold their sums. hpo's mean loss of tokens is over the tokens,
    also where their classes have weights: its sum is divided by their number.
    """
    # User code gets copies: what it changes in place stays its own.
    is_hpos = str(getattr(loss, "__module__", "")).startswith("hpo.")
    own = (outputs, labels) if is_hpos else (outputs.clone(), labels.clone())
    losses = compute_losses(loss, *own)
    by_token = task == "tokens" and is_cross_entropy(loss)
    ratios: Ratios = {"loss": (losses * count_tokens(labels), count_tokens(labels)) if by_token else mean_of(losses)}
    ratios |= RATIOS[task](outputs, labels)
    for name, metric in metrics.items():
        ratios[name] = mean_of(compute_metric(name, metric, outputs.clone(), labels.clone()))
    dtype = torch.promote_types(outputs.dtype, torch.float32)

    def as_floats(value: Tensor) -> Tensor:
        return value.to(torch.promote_types(value.dtype, dtype) if value.is_floating_point() else dtype)

    return {name: tuple(map(as_floats, ratio)) for name, ratio in ratios.items()}


class RatioSums:
    """The sums of `sample_ratios` over the chunks of a set, for K models."""

    def __init__(self) -> None:
        self._sums: dict[str, list[Tensor]] = {}

    def add(self, ratios: Ratios, weights: Tensor) -> None:
        """Adds a chunk: leaves [K, n, ...], weights [K, n]; a sample of weight 0 is left out."""
        for name, ratio in ratios.items():
            parts = [_weighted_sum(values, weights) for values in (ratio if len(ratio) > 1 else (*ratio, weights))]
            before = self._sums.get(name)
            self._sums[name] = [one + other for one, other in zip(before, parts, strict=True)] if before else parts

    def add_shares(self, share: Share) -> None:
        """Adds the sums of the other processes, each of which has evaluated a share of the set."""
        if share.count > 1:
            parts = [part for parts in self._sums.values() for part in parts]
            totals = iter(share.total(*(part.double() for part in parts)))
            self._sums = {name: [next(totals).to(part.dtype) for part in parts] for name, parts in self._sums.items()}

    def metrics(self, labels: Tensor, weights: Tensor) -> Tree:
        """The metrics [K] of the whole set with labels [K, n, ...]."""
        means = {
            name: total / count.clamp(min=1).reshape(-1, *[1] * (total.dim() - 1))
            for name, (total, count) in self._sums.items()
        }
        return finish_metrics(means, labels, weights)


def _weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    if values is weights:
        return weights.sum(1)
    weights = weights.reshape(*weights.shape, *[1] * (values.dim() - 2))
    # The product of weight 0 and a padded sample's NaN would be NaN.
    return torch.where(weights > 0, values * weights, 0).sum(1)


def whole_metrics(metrics: Mapping[str, Any], outputs: Tensor, labels: Tensor, weights: Tensor) -> Tree:
    """Metrics [K] of a whole set, one model after the other; NaN where a model's outputs are not finite.

    Args:
        outputs, labels: [K, n, ...]. weights: [K, n], 0 for samples that are left out.
    """
    outputs, labels, used = outputs.cpu(), labels.cpu(), weights.cpu() > 0
    models = [(outputs[row][used[row]], labels[row][used[row]]) for row in range(len(outputs))]
    return {
        name: torch.tensor([_compute_whole(name, metric, *model) for model in models], device=weights.device)
        for name, metric in metrics.items()
    }


def _compute_whole(name: str, metric: Any, outputs: Tensor, labels: Tensor) -> float:
    if not outputs.isfinite().all():
        return math.nan
    code = f"metric {name!r}"
    function: Any = metric.function if isinstance(metric, Whole) else metric
    # Copies, so that other metrics do not see what this one changes in place.
    outputs, labels = one_number_per_target(outputs, labels).clone(), labels.clone()
    with naming(code, outputs, labels):
        if is_accumulator(function):
            collector = copy.deepcopy(function)  # what it has collected elsewhere stays there
            collector.reset()
            collector.update(outputs, labels)
            value = collector.compute()
        else:
            value = call_user_code(code, "metric(outputs, labels)", function, outputs, labels)
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        return float(value)
    try:
        return float("" if isinstance(value, Tensor) else value)
    except (TypeError, ValueError):
        raise UsageError(f"{code} of a whole set gives {describe_value(value)}; return one number") from None
