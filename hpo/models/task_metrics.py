"""The metrics that hpo reports for each task, as ratios of sums over samples, so that chunks of a set can be added."""

from collections.abc import Callable

import torch
from torch import Tensor

from hpo.models.entropies import count_tokens, is_logit, one_number_per_target, token_entropies
from hpo.tasks import ACCURACY, IGNORED, TOP5

# Of every sample what it adds to the numerator, [N] or [N, ...], and to the denominator, [N], if that is not 1.
Ratio = tuple[Tensor, ...]
SampleRatios = Callable[[Tensor, Tensor], dict[str, Ratio]]


def mean_of(values: Tensor) -> Ratio:
    """The metric that is the mean over the samples of values [N, ...]."""
    return (values,)


def predicted_right(outputs: Tensor, labels: Tensor) -> Tensor:
    """Whether each class label is the predicted one: the largest output, or the sign of a single logit."""
    if is_logit(outputs, labels):
        return (one_number_per_target(outputs, labels) > 0) == (labels == 1)
    return outputs.argmax(-1) == labels


def _classification(outputs: Tensor, labels: Tensor) -> dict[str, Ratio]:
    ratios = {ACCURACY: mean_of(predicted_right(outputs, labels).to(torch.float32))}
    if not is_logit(outputs, labels) and outputs.shape[-1] > 5:
        own = outputs.gather(-1, labels.unsqueeze(-1))
        better = (~(outputs <= own)).sum(-1)  # also those that are NaN
        ratios[TOP5] = mean_of((better < 5).to(torch.float32))
    return ratios


def _regression(outputs: Tensor, labels: Tensor) -> dict[str, Ratio]:
    # In float64, as the mean of many squares is compared with another one.
    errors = one_number_per_target(outputs, labels).double() - labels.double()
    return {"squared_error": mean_of(errors.square())}


def _multilabel(outputs: Tensor, labels: Tensor) -> dict[str, Ratio]:
    predicted, given = outputs > 0, labels == 1
    hits, marks = (predicted & given).sum(-1), predicted.sum(-1) + given.sum(-1)
    return {"f1": (2 * hits, marks), "exact_match": mean_of((predicted == given).all(-1).to(torch.float32))}


def _tokens(outputs: Tensor, labels: Tensor) -> dict[str, Ratio]:
    counts = count_tokens(labels)
    right = (predicted_right(outputs, labels) & (labels != IGNORED)).sum(-1)
    return {
        "token_entropy": (token_entropies(outputs, labels).double().sum(-1), counts),
        "accuracy": (right, counts),
    }


RATIOS: dict[str, SampleRatios] = {
    "classification": _classification,
    "regression": _regression,
    "multilabel": _multilabel,
    "tokens": _tokens,
}


def finish_metrics(means: dict[str, Tensor], labels: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """A task's metrics [K] from the ratios of its sums.

    R² = 1 − mean squared error / variance of the labels, the mean over the numbers of a target; NaN where these do not
    vary. RMSE is the root of the mean squared error over all of them. Perplexity is exp(mean cross-entropy of a token).

    Args:
        means: name → [K], or [K, ...] for numbers of a target. labels: [K, n, ...]. weights: [K, n].
    """
    metrics = dict(means)
    if (errors := metrics.pop("squared_error", None)) is not None:
        errors = errors.flatten(1) if errors.dim() > 1 else errors[:, None]
        variances = _variances(labels.flatten(2) if labels.dim() > 2 else labels[..., None], weights)
        metrics["r2"] = torch.where(variances > 0, 1 - errors / variances, torch.nan).mean(1)
        metrics["rmse"] = errors.mean(1).sqrt()
    if (entropy := metrics.pop("token_entropy", None)) is not None:
        metrics["perplexity"] = entropy.exp()
    return metrics


def _variances(labels: Tensor, weights: Tensor) -> Tensor:
    """Variances [K, D] of labels [K, n, D] with weights [K, n], in float64."""
    weights = weights.double()[..., None]
    labels, total = labels.double(), weights.sum(1)
    mean = (labels * weights).sum(1) / total
    return ((labels - mean[:, None]).square() * weights).sum(1) / total
