"""Losses of single samples, as training and evaluation use them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from hpo.errors import is_fraction_below_one, require

SampleLoss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """−log softmax(outputs) at the label, of every sample.

    The same as `torch.nn.functional.cross_entropy(..., reduction="none")`, in fewer operations under `vmap`.

    Args:
        outputs: logits [N, C]. labels: int64 [N] in 0 … C − 1.

    Returns:
        [N].
    """
    return -outputs.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy, with or without smoothed labels (Szegedy et al., arXiv:1512.00567).

    With smoothing s a label stands for s/C on every one of the C classes and 1 − s more on its own, so that the loss is
    (1 − s) · cross-entropy + s · the mean of −log softmax over the classes, as in
    `torch.nn.functional.cross_entropy(label_smoothing=s)`.

    Attributes:
        label_smoothing: s, from 0 to below 1. (Label noise of the data set is something else: it changes labels.)
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        value = self.label_smoothing
        require(is_fraction_below_one(value), "label_smoothing", value, "a number from 0 to below 1")

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Losses [N] for logits [N, C] and int64 labels [N]."""
        if not self.label_smoothing:
            return cross_entropy(outputs, labels)
        logs = outputs.log_softmax(-1)
        at_label = logs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return -(1 - self.label_smoothing) * at_label - self.label_smoothing * logs.mean(-1)


def evaluated_loss(trained: SampleLoss) -> SampleLoss:
    """The loss that evaluation reports: without label smoothing, which concerns only training."""
    return cross_entropy if isinstance(trained, CrossEntropy) else trained
