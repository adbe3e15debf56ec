"""What a data set is, and what a seed makes of it: labels with noise, a training part and a validation part."""

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.random import stream, stream_key
from hpo.user_code.generators import seeded


class Source(NamedTuple):
    """A data set before any seed has touched it.

    `load` may give numpy arrays and other integer labels, in a column [M, 1] too; see `hpo.data.loading`.

    Attributes:
        inputs: [M, ...] of any type, without NaN and infinities; labels: [M] int64 in 0 … classes − 1. Training and
            validation are drawn from these.
        test_inputs: [T, ...] like the inputs; test_labels: [T]. Reruns alone read these.
        classes: how many there are, at least 2.
    """

    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int


def seeded_load() -> AbstractContextManager[None]:
    """Around `load`: what it draws from Python's, numpy's and PyTorch's global generators is the same each time."""
    return seeded(stream_key(0, "data", "load"))


@dataclass(frozen=True)
class Dataset:
    """What every data set lets a study choose; a data set of your own is a subclass with a `load`.

    A field is part of a study's definition unless its metadata says otherwise: `{"described": False}` for what is a
    machine's affair, `{"described": "label_noise"}` for what matters only while that other field is not 0.

    Attributes:
        label_noise: share of the samples outside the test set whose label is drawn for a change. It falls on training
            and validation alike; the test set stays clean.
        noise: what becomes of those labels. `"symmetric"` redraws them uniformly over all classes, the right one
            included; `"asymmetric"` changes each to the class that `confusions` names for it, and leaves the others.
        validation: share of the samples outside the test set that is kept for validation.
        split: `"random"` draws the validation part anew for every seed; `"last"` takes the last samples.
        confusions: class -> the class that it is mistaken for; a property of the data set, not of a study.
    """

    label_noise: float = 0.0
    noise: Literal["symmetric", "asymmetric"] = field(default="symmetric", metadata={"described": "label_noise"})
    validation: float = 0.2
    split: Literal["random", "last"] = "random"

    confusions: ClassVar[Mapping[int, int]] = {}

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "load" in vars(cls):
            cls.load = _seeded(cls.load)  # type: ignore[assignment,method-assign]

    def __post_init__(self) -> None:
        if not 0 <= self.label_noise <= 1:
            raise UsageError(f"data: label_noise is {self.label_noise!r}; give a share between 0 and 1")
        if self.noise not in ("symmetric", "asymmetric"):
            raise UsageError(f"data: noise is {self.noise!r}; give 'symmetric' or 'asymmetric'")
        if self.noise == "asymmetric" and not self.confusions:
            raise UsageError(
                f"data: noise is 'asymmetric', but {type(self).__name__} does not say which class is mistaken for "
                "which; give 'symmetric', or a data set with `confusions`"
            )
        if not 0 < self.validation < 1:
            raise UsageError(f"data: validation is {self.validation!r}; give a share above 0 and below 1")
        if self.split not in ("random", "last"):
            raise UsageError(f"data: split is {self.split!r}; give 'random' or 'last'")

    def load(self) -> Source:
        """The whole data set on the CPU.

        Random numbers from Python's, numpy's and PyTorch's global generators are the same at every call.
        """
        raise UsageError(f"data: {type(self).__name__} has no load(); write one that returns an hpo.Source")

    @property
    def augments(self) -> bool:
        """Whether training sees augmented inputs: whether `augment` does anything."""
        return type(self).augment is not Dataset.augment

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        """A random variation of every sample, the same for the same key, whatever else is in the batch.

        Randomness comes from `hpo.random` and the keys alone.

        Args:
            inputs: [N, ...] on any device, left as they are. keys: [N] int64, 0 … 2³² − 1, on the same device.

        Returns:
            [N, ...] of the inputs' dtype; the inputs themselves for a data set without augmentations.
        """
        del keys
        return inputs


def _seeded(load: Callable[[Any], Source]) -> Callable[[Any], Source]:
    @functools.wraps(load)
    def seeded(dataset: Any) -> Source:
        with seeded_load():
            return load(dataset)

    return seeded


def require(dataset: Dataset, name: str, holds: bool, wanted: str) -> None:
    """Refuses a field's value unless it holds; `wanted` completes "give …"."""
    if not holds:
        raise UsageError(f"{type(dataset).__name__}: {name} is {getattr(dataset, name)!r}; give {wanted}")


def augmentation(default: Any) -> Any:
    """A field that is part of the definition only while the data set's `augmented` is true."""
    return field(default=default, metadata={"described": "augmented"})


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
    drawn = torch.randperm(total, generator=noise)[: round(dataset.label_noise * total)]
    if dataset.noise == "asymmetric":
        classes = torch.tensor([dataset.confusions.get(label, label) for label in range(source.classes)])
        labels[drawn] = classes[labels[drawn]]
    else:
        labels[drawn] = torch.randint(source.classes, (len(drawn),), generator=noise)

    kept = total - round(dataset.validation * total)
    order = torch.arange(total)
    if dataset.split == "random":
        order = torch.randperm(total, generator=stream(seed, "data", "split"))
    training = order[:kept]
    changed = training[labels[training] != source.labels[training]]
    return Split(labels, training, order[kept:], changed)
