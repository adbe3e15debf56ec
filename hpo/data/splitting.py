"""What follows from a seed for a data set: label noise, and a training and a validation part."""

from typing import NamedTuple

import torch
from torch import Tensor

from hpo.data.source import Dataset, Source
from hpo.random import stream


class Split(NamedTuple):
    """The training and validation part of a source of M samples, for one seed.

    Attributes:
        labels: [M, ...] labels for training, with noise.
        training, validation: indices into the source, int64, disjoint, together all of 0 … M − 1.
        changed: indices of training samples whose label differs from the true one.
    """

    labels: Tensor
    training: Tensor
    validation: Tensor
    changed: Tensor


def split(source: Source, dataset: Dataset, seed: int) -> Split:
    """Label noise and split of one seed, the same for every configuration."""
    total = len(source.labels)
    labels = _noisy_labels(source, dataset, seed) if dataset.label_noise else source.labels
    order = torch.arange(total)
    if dataset.split == "random":
        order = torch.randperm(total, generator=stream(seed, "data", "split"))
    training, validation = order.tensor_split([total - round(dataset.validation * total)])
    changed = training[labels[training] != source.labels[training]] if dataset.label_noise else training[:0]
    return Split(labels, training, validation, changed)


def _noisy_labels(source: Source, dataset: Dataset, seed: int) -> Tensor:
    """The labels [M] of one seed, some of them redrawn."""
    assert source.classes is not None
    labels, noise = source.labels.clone(), stream(seed, "data", "label noise")
    drawn = torch.randperm(len(labels), generator=noise)[: round(dataset.label_noise * len(labels))]
    if dataset.noise == "asymmetric":
        classes = torch.tensor([dataset.confusions.get(label, label) for label in range(source.classes)])
        labels[drawn] = classes[labels[drawn]]
    elif dataset.noise == "symmetric_exclusive":
        steps = 1 + torch.randint(source.classes - 1, (len(drawn),), generator=noise)
        labels[drawn] = (labels[drawn] + steps) % source.classes
    else:
        labels[drawn] = torch.randint(source.classes, (len(drawn),), generator=noise)
    return labels
