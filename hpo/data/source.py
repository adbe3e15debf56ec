"""What a data set is, and what a seed makes of it: labels with noise, a training part and a validation part."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.seeds import stream


class Source(NamedTuple):
    """A data set before any seed has touched it.

    Attributes:
        inputs: [M, ...] float; labels: [M] int64 in 0 … classes − 1. Training and validation are drawn from these.
        test_inputs: [T, ...]; test_labels: [T]. Reruns alone read these.
    """

    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int


@dataclass(frozen=True)
class Dataset:
    """What every data set lets a study choose; a data set of your own is a subclass with a `load`.

    Attributes:
        label_noise: share of the samples outside the test set whose label is redrawn uniformly over all classes, the
            right one included. It falls on training and validation alike; the test set stays clean.
        validation: share of those samples that is kept for validation.
        split: `"random"` draws the validation part anew for every seed; `"last"` takes the last samples.
    """

    label_noise: float = 0.0
    validation: float = 0.2
    split: Literal["random", "last"] = "random"

    def __post_init__(self) -> None:
        if not 0 <= self.label_noise <= 1:
            raise UsageError(f"data: label_noise is {self.label_noise!r}; give a share between 0 and 1")
        if not 0 < self.validation < 1:
            raise UsageError(f"data: validation is {self.validation!r}; give a share above 0 and below 1")
        if self.split not in ("random", "last"):
            raise UsageError(f"data: split is {self.split!r}; give 'random' or 'last'")

    def load(self) -> Source:
        """The whole data set on the CPU."""
        raise UsageError(f"data: {type(self).__name__} has no load(); write one that returns an hpo.Source")


class Split(NamedTuple):
    """What one seed makes of a source of M samples.

    Attributes:
        labels: [M] labels as given to training, noise included.
        training, validation: positions in the source, int64, disjoint, together all of 0 … M − 1.
        changed: positions of training samples whose label differs from the true one.
    """

    labels: Tensor
    training: Tensor
    validation: Tensor
    changed: Tensor


def split(source: Source, dataset: Dataset, seed: int) -> Split:
    """Label noise and split of one seed; the same whoever asks."""
    total = len(source.labels)
    labels = source.labels.clone()
    noise = stream(seed, "data", "label noise")
    redrawn = torch.randperm(total, generator=noise)[: round(dataset.label_noise * total)]
    labels[redrawn] = torch.randint(source.classes, (len(redrawn),), generator=noise)

    kept = total - round(dataset.validation * total)
    order = torch.arange(total)
    if dataset.split == "random":
        order = torch.randperm(total, generator=stream(seed, "data", "split"))
    training = order[:kept]
    changed = training[labels[training] != source.labels[training]]
    return Split(labels, training, order[kept:], changed)
