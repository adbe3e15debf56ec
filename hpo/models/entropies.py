"""Cross-entropies of single samples: of classes, of shares of classes, and of tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo.tasks import IGNORED


def one_number_per_target(outputs: Tensor, labels: Tensor) -> Tensor:
    """Outputs in the shape of the labels: a network with one output gives [N, 1] for labels [N]."""
    return outputs.squeeze(-1) if outputs.dim() == labels.dim() + 1 and outputs.shape[-1] == 1 else outputs


def is_logit(outputs: Tensor, labels: Tensor) -> bool:
    """Whether the outputs have one number for each class label, the logit of class 1, instead of one per class."""
    return one_number_per_target(outputs, labels).dim() == labels.dim()


def sample_entropies(outputs: Tensor, labels: Tensor, smoothing: float, class_weights: tuple[float, ...]) -> Tensor:
    """The cross-entropy [N] of labels, or of shares of classes [N, C]."""
    if labels.is_floating_point():
        return _soft_entropies(outputs, labels, smoothing, class_weights)
    return _mean_over_tokens(_entropies(outputs, labels, smoothing, class_weights), labels)


def _soft_entropies(outputs: Tensor, shares: Tensor, smoothing: float, class_weights: tuple[float, ...]) -> Tensor:
    """−Σ_c share_c · weight_c · log softmax(outputs)_c [N], the shares smoothed first."""
    if outputs.shape != shares.shape:  # one output is the logit of class 1
        logit = outputs.reshape(len(outputs))
        logs = torch.stack([F.logsigmoid(-logit), F.logsigmoid(logit)], 1)
    else:
        logs = outputs.log_softmax(-1)
    logs = logs * filled(outputs, class_weights) if class_weights else logs
    losses = -(shares.to(logs.dtype) * logs).sum(-1)
    return (1 - smoothing) * losses - smoothing * logs.mean(-1) if smoothing else losses


def _entropies(outputs: Tensor, labels: Tensor, smoothing: float, class_weights: tuple[float, ...]) -> Tensor:
    """The cross-entropy of every label, in the labels' shape; 0 where a token has no target."""
    tokens = labels.dim() > 1
    targets = labels.clamp(min=0) if tokens else labels
    if is_logit(outputs, labels) and smoothing and class_weights:  # the smoothed part has the weights of both classes
        logit = one_number_per_target(outputs, labels)
        outputs = torch.stack([torch.zeros_like(logit), logit], -1)
    if is_logit(outputs, labels):
        smoothed = targets.to(outputs.dtype) * (1 - smoothing) + smoothing / 2
        losses = F.binary_cross_entropy_with_logits(one_number_per_target(outputs, labels), smoothed, reduction="none")
        if class_weights:
            losses = losses * torch.where(targets == 1, class_weights[1], class_weights[0])
    else:
        logs = outputs.log_softmax(-1)
        losses = -logs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        if class_weights:
            weights = filled(outputs, class_weights)
            losses = losses * weights.gather(0, targets.flatten()).reshape(targets.shape)
            logs = logs * weights
        if smoothing:
            losses = (1 - smoothing) * losses - smoothing * logs.mean(-1)
    return torch.where(labels == IGNORED, 0.0, losses) if tokens else losses


def filled(like: Tensor, values: tuple[float, ...]) -> Tensor:
    """A tensor of numbers, filled on its device: a copy from the CPU would synchronise."""
    return torch.stack([like.new_full((), value) for value in values])


def count_tokens(labels: Tensor) -> Tensor:
    """How many tokens [N] of each sequence [N, T] have a target."""
    return (labels != IGNORED).sum(-1)


def _mean_over_tokens(losses: Tensor, labels: Tensor) -> Tensor:
    return losses.sum(-1) / count_tokens(labels).clamp(min=1) if labels.dim() > 1 else losses


def token_entropies(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy [N, T] of every token, 0 where it has no target."""
    return _entropies(outputs, labels, 0.0, ())
