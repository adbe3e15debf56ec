"""A data set as a study names it, and its samples."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from torch import Tensor

from hpo.data.image_files import ImageFiles
from hpo.data.mixing import Mixing
from hpo.errors import UsageError, require
from hpo.random import stream_key
from hpo.tasks import CLASSIFICATION, TASKS
from hpo.user_code.generators import seeded

Noise = Literal["symmetric", "symmetric_exclusive", "asymmetric"]


Inputs = Tensor | ImageFiles


class Source(NamedTuple):
    """The samples of a data set, before label noise and split.

    `load` may return numpy arrays, other number types and labels in a column [M, 1]; see `hpo.data.loading`.

    Attributes:
        inputs: [M, ...] of any type, without NaN and infinities; or images in files, which are read when they are
            needed. labels: as the data set's `task` says, one per sample. Training and validation are drawn from these.
        test_inputs, test_labels: the same of the test set, which only reruns read.
        classes: the number of classes, at least 2, or of different tokens; None for regression and multi-label targets.
    """

    inputs: Inputs
    labels: Tensor
    test_inputs: Inputs
    test_labels: Tensor
    classes: int | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether the inputs are images in files."""
        return isinstance(self.inputs, ImageFiles)


def seeded_load() -> AbstractContextManager[None]:
    """Seeds the global generators of Python, numpy and PyTorch for a `load`, so that it draws the same each time."""
    return seeded(stream_key(0, "data", "load"))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The fields that every data set has; a custom data set is a subclass with a `load`.

    The class attribute `task` says what its labels are:

    - "classification" (default): int64 [M] in 0 … classes − 1;
    - "regression": numbers [M] or [M, D];
    - "multilabel": 0 or 1 for each of L labels, [M, L];
    - "tokens": int64 [M, T] in 0 … classes − 1, and −100 where a token has no target.

    A field is part of a study's definition unless its metadata says otherwise: `{"described": False}` for a field that
    may differ between machines, `{"described": "label_noise"}` for one that matters only if that other field (or
    property) is not 0.

    Attributes:
        label_noise: fraction of the samples outside the test set whose label is redrawn. Training and validation have
            label noise, the test set has none.
        noise: `"symmetric"` redraws a label uniformly over all classes, the true one included, so that 1/classes of
            the redrawn labels stay the same; `"symmetric_exclusive"` over the other classes, so that all change;
            `"asymmetric"` changes it to the class that `confusions` maps it to, and keeps the labels of other classes.
        validation: fraction of the samples outside the test set that is used for validation.
        mixup, cutmix: α of mixup and CutMix, which mix the samples of every training minibatch in pairs; 0: none. The
            weight of a pair is drawn from Beta(α, α), once per minibatch. With both, each minibatch is mixed by one of
            them. The loss gets the shares of the classes [N, C] instead of labels [N]. See `hpo.data.mixing`.
        mix_probability: probability that a minibatch is mixed.
        split: `"random"` draws another validation part for every seed; `"last"` takes the last samples.
        confusions: class -> the class that it is mistaken for; fixed for a data set, not chosen by a study.
    """

    label_noise: float = field(default=0.0, metadata={"described": "has_classes"})
    noise: Noise = field(default="symmetric", metadata={"described": "label_noise"})
    validation: float = 0.2
    split: Literal["random", "last"] = "random"
    mixup: float = field(default=0.0, metadata={"described": "mixing"})
    cutmix: float = field(default=0.0, metadata={"described": "mixing"})
    mix_probability: float = field(default=1.0, metadata={"described": "mixing"})

    confusions: ClassVar[Mapping[int, int]] = {}
    task: ClassVar[str] = "classification"

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "load" in vars(cls):
            cls.load = seeded_load()(cls.load)  # type: ignore[method-assign,operator]

    def __post_init__(self) -> None:
        self._require("label_noise", 0 <= self.label_noise <= 1, "a fraction between 0 and 1")
        kinds = get_args(Noise)
        self._require("noise", self.noise in kinds, f"one of {', '.join(map(repr, kinds))}")
        mapped = self.noise != "asymmetric" or bool(self.confusions)
        self._require("noise", mapped, "'symmetric', or add `confusions` (class -> class) to the data set")
        self._require("task", self.task in TASKS, f"one of {', '.join(TASKS)}")
        if self.label_noise and not self.has_classes:
            raise UsageError(
                f"{type(self).__name__}: label_noise is {self.label_noise!r}, but it redraws classes, and the task is "
                f"{TASKS[self.task].words}; leave it out, or change the targets in the data themselves"
            )
        self._require("validation", 0 < self.validation < 1, "a fraction above 0 and below 1")
        self._require("split", self.split in ("random", "last"), "'random' or 'last'")
        self._check_mixing()

    def _check_mixing(self) -> None:
        for name in ("mixup", "cutmix"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "a number above 0, or 0 for none")
        self._require("mix_probability", 0 < self.mix_probability <= 1, "a probability above 0")
        if self.mixing and not self.has_classes:
            raise UsageError(
                f"{type(self).__name__}: mixup and cutmix mix classes, and the task is {TASKS[self.task].words}; leave "
                "them out"
            )

    def _require(self, name: str, valid: bool, expected: str) -> None:
        """Raises UsageError unless the value of a field is valid; `expected` completes "give …"."""
        require(valid, f"{type(self).__name__}: {name}", getattr(self, name), expected)

    def load(self) -> Source:
        """The whole data set on the CPU.

        Random numbers from the global generators of Python, numpy and PyTorch are the same in every call.
        """
        raise UsageError(f"data: {type(self).__name__} has no load(); write one that returns an hpo.Source")

    def corrupted_tests(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Further test samples: the name of a corruption, inputs [M, ...] as those of `load`, and true labels [M].

        Reruns report the accuracy on all of them as `test_corrupted_accuracy`, and that of each name as
        `test_accuracy_<name>`. None by default.
        """
        yield from ()

    def scaling(self, inputs: Tensor) -> tuple[Tensor, Tensor] | None:
        """A shift and a factor for all inputs of one seed, x ↦ (x − shift) · factor, from those of its training part.

        It also applies to the seed's validation and test inputs; None (default) leaves the inputs as they are.

        Args:
            inputs: [M, ...], the training part. Returns: two tensors [...] of the inputs' type.
        """
        del inputs
        return None

    def rescale(self, inputs: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        """Inputs [K, N, ...] of K seeds with the shift and factor [K, 1, ...] that `scaling` returned for each."""
        return (inputs - shift) * factor

    @property
    def has_classes(self) -> bool:
        """Whether there is one class per sample, which label noise can redraw."""
        return self.task == CLASSIFICATION.name

    @property
    def mixing(self) -> Mixing | None:
        """How training mixes the samples of a minibatch; None if it does not."""
        return Mixing(self.mixup, self.cutmix, self.mix_probability) if self.mixup or self.cutmix else None

    @property
    def augments(self) -> bool:
        """Whether training sees augmented inputs, that is, whether `augment` changes anything."""
        return type(self).augment is not Dataset.augment

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        """A random variation of every sample, which depends only on the sample and its key.

        Random numbers come from `hpo.random` and the keys.

        Args:
            inputs: [N, ...] on any device, not modified. keys: [N] int64, 0 … 2³² − 1, on the same device.

        Returns:
            [N, ...] of the inputs' dtype; the inputs themselves if the data set has no augmentation.
        """
        del keys
        return inputs


def augmentation(default: Any) -> Any:
    """A field that is part of the definition only if the data set's `augmented` is true."""
    return field(default=default, metadata={"described": "augmented"})
