"""Losses of single samples, as training and evaluation use them.

Every loss takes outputs and labels of N samples and returns N numbers, so that gradients of single samples exist.
Each class names the tasks that it is for, and a study refuses it for others.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from hpo.errors import UsageError, is_fraction_below_one, require
from hpo.models.entropies import filled, is_logit, one_number_per_target, sample_entropies

SampleLoss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """−log softmax(outputs) at the label, of every sample; for tokens the mean over those that have a target.

    The same as `torch.nn.functional.cross_entropy(..., reduction="none")`, in fewer operations under `vmap`. One output
    for each label is the logit of class 1, as in `binary_cross_entropy_with_logits`.

    Args:
        outputs: logits [N, C] or [N, T, C]; or [N] or [N, 1] for two classes.
        labels: int64 [N] or [N, T], in 0 … C − 1; −100 marks a token without a target. Floats [N, C] are the shares
            of the classes, as mixup and CutMix give them.

    Returns:
        [N].
    """
    return sample_entropies(outputs, labels, 0.0, ())


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy, with or without smoothed labels (Szegedy et al., arXiv:1512.00567) and weights of classes.

    With smoothing s a label stands for s/C on every one of the C classes and 1 − s more on its own, so that the loss is
    (1 − s) · cross-entropy + s · the mean of −log softmax over the classes, as in
    `torch.nn.functional.cross_entropy(label_smoothing=s)`.

    Attributes:
        label_smoothing: s, from 0 to below 1. (Label noise of the data set is something else: it changes labels.)
        class_weights: a factor on the loss of each class, in the order of the classes; none by default. The mean over a
            batch divides by the number of samples; PyTorch's divides by the sum of their weights, by which the
            gradient of a sample would depend on the others. Weights with a mean of 1 keep the scale of the loss.
    """

    for_tasks: ClassVar[tuple[str, ...]] = ("classification", "tokens")

    label_smoothing: float = 0.0
    # A definition names them only where there are some, so that the digests of older studies stay the same.
    class_weights: tuple[float, ...] = field(default=(), metadata={"described": "class_weights"})

    def __post_init__(self) -> None:
        value = self.label_smoothing
        require(is_fraction_below_one(value), "label_smoothing", value, "a number from 0 to below 1")
        object.__setattr__(self, "class_weights", _checked_weights("class_weights", self.class_weights))

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Losses [N] for logits [N, C] and labels [N], or [N, T, C] and [N, T]; see `cross_entropy`."""
        self.check(outputs, labels)
        return sample_entropies(outputs, labels, self.label_smoothing, self.class_weights)

    def check(self, outputs: Tensor, labels: Tensor) -> None:
        """Raises UsageError unless every class has a weight, where there are weights."""
        hard = not labels.is_floating_point()
        classes = (2 if is_logit(outputs, labels) else outputs.shape[-1]) if hard else labels.shape[-1]
        if self.class_weights and len(self.class_weights) != classes:
            raise UsageError(
                f"class_weights has {len(self.class_weights)} numbers, and the network distinguishes {classes} "
                "classes; give one weight per class"
            )


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Cross-entropy of L labels that are each 0 or 1, from one logit for each: the mean over the labels.

    Attributes:
        positive_weights: a factor on the loss of each label where it is 1, as `pos_weight` of PyTorch's
            `BCEWithLogitsLoss`: one number for all labels, or one per label; none by default.
    """

    for_tasks: ClassVar[tuple[str, ...]] = ("multilabel",)

    positive_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "positive_weights", _checked_weights("positive_weights", self.positive_weights))

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Losses [N] for logits [N, L] and labels [N, L] of zeros and ones."""
        weights = None
        if self.positive_weights:
            if len(self.positive_weights) not in (1, labels.shape[-1]):
                raise UsageError(
                    f"positive_weights has {len(self.positive_weights)} numbers for {labels.shape[-1]} labels; give "
                    "one, or one per label"
                )
            weights = filled(outputs, self.positive_weights)
        targets = labels.to(outputs.dtype)
        return F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weights, reduction="none").mean(-1)


@dataclass(frozen=True)
class SquaredError:
    """The squared error, the mean over the numbers of a target."""

    for_tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Losses [N] for outputs and labels [N] or [N, ...]; outputs may also be [N, 1] for labels [N]."""
        squares = (one_number_per_target(outputs, labels) - labels.to(outputs.dtype)).square()
        return squares.flatten(1).mean(1) if squares.dim() > 1 else squares


def _checked_weights(name: str, given: Any) -> tuple[float, ...]:
    """The weights as a tuple of numbers above 0; a single number becomes one."""
    values = (given,) if isinstance(given, int | float) else given
    values = values.tolist() if isinstance(values, Tensor) else values
    valid = isinstance(values, tuple | list) and all(isinstance(value, int | float) and value > 0 for value in values)
    require(valid, name, given, "numbers above 0, one per class or label")
    return tuple(float(value) for value in values)


LOSSES: dict[str, SampleLoss] = {
    "classification": CrossEntropy(),
    "regression": SquaredError(),
    "multilabel": BinaryCrossEntropy(),
    "tokens": CrossEntropy(),
}


def evaluated_loss(trained: SampleLoss) -> SampleLoss:
    """The loss that evaluation reports: without label smoothing, which concerns only training."""
    if not isinstance(trained, CrossEntropy):
        return trained
    if is_cross_entropy(trained) and not trained.class_weights:
        return cross_entropy
    evaluated = copy.copy(trained)
    object.__setattr__(evaluated, "label_smoothing", 0.0)
    return evaluated


def is_cross_entropy(loss: SampleLoss) -> bool:
    """Whether a loss is hpo's cross-entropy, and not that of a subclass which computes another one."""
    return loss is cross_entropy or type(loss).__call__ is CrossEntropy.__call__
