"""CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hpo.data.archives import ARCHIVES, obtain, read_members
from hpo.data.cache import data_folder
from hpo.data.cifar_c import BENCHMARK, FURTHER, read_corrupted
from hpo.data.published_images import PublishedImages
from hpo.data.source import Source, augmentation
from hpo.errors import HpoError

SHAPE = (3, 32, 32)  # channels, rows, columns, in the order of the bytes
PIXEL_BYTES = 3072
DEVIATIONS = ("pixels", "images")


@dataclass(frozen=True)
class _Cifar(PublishedImages):
    """Colour images of 32×32 pixels from the published binary archive, which is downloaded on first use.

    The augmentations and their strengths are those of the experiments of SAM and its successors.

    Attributes:
        deviations: the standard deviations by which the channels are divided: "pixels" those of all pixels of the
            training images, "images" the means of those of single images (CIFAR-10: 0.2023, 0.1994, 0.2010, as in the
            code of GAM and GVR), or three numbers, for pixels from 0 to 1.
        corrupted: whether reruns also report the accuracy on CIFAR-10-C or CIFAR-100-C (Hendrycks & Dietterich,
            arXiv:1903.12261), whose archive of 2.9 GB is downloaded on first use: `test_corrupted_accuracy` over all
            chosen corruptions and severities, and `test_accuracy_<corruption>` for each.
        corruptions: by default the 15 that are in its benchmark. severities: from 1 to 5.
    """

    augmented: bool = True
    deviations: Literal["pixels", "images"] | tuple[float, float, float] = "pixels"
    padding: int = augmentation(4)
    flip: float = augmentation(0.5)
    cutout: int = augmentation(16)
    corrupted: bool = field(default=False, metadata={"described": "corrupted"})
    corruptions: tuple[str, ...] = field(default=BENCHMARK, metadata={"described": "corrupted"})
    severities: tuple[int, ...] = field(default=(1, 2, 3, 4, 5), metadata={"described": "corrupted"})

    archive: ClassVar[str]  # the key in ARCHIVES
    classes: ClassVar[int]
    label_bytes: ClassVar[int]  # before the pixels of a record; the last of them is the class
    training_files: ClassVar[Sequence[str]]
    test_file: ClassVar[str]
    # Per channel, over the 50,000 training images, with pixels from 0 to 1.
    means: ClassVar[Sequence[float]]
    pixel_deviations: ClassVar[Sequence[float]]
    image_deviations: ClassVar[Sequence[float]]

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.deviations
        numbers = isinstance(given, tuple) and len(given) == 3
        valid = all(isinstance(value, float) and value > 0 for value in given) if numbers else given in DEVIATIONS
        self._require("deviations", valid, "'pixels', 'images' or three numbers above 0")
        known = bool(self.corruptions) and set(self.corruptions) <= {*BENCHMARK, *FURTHER}
        self._require("corruptions", known, f"a tuple of some of {', '.join((*BENCHMARK, *FURTHER))}")
        known = bool(self.severities) and set(self.severities) <= {1, 2, 3, 4, 5}
        self._require("severities", known, "a tuple of some of 1, 2, 3, 4, 5")

    def load(self) -> Source:
        """inputs [50000, 3, 32, 32] and test inputs [10000, 3, 32, 32], standardised float32 (740 MB).

        Raises:
            HpoError: an archive can neither be found nor downloaded, or is not the published one.
        """
        folder = data_folder(self.folder)
        path = obtain(ARCHIVES[self.archive], folder)
        if self.corrupted:  # reruns would find out after all tuning
            obtain(ARCHIVES[f"{self.archive}-c"], folder)
        files = read_members(path, [*self.training_files, self.test_file])
        try:
            inputs, labels = self._read([files.pop(name) for name in self.training_files])
            test_inputs, test_labels = self._read([files.pop(self.test_file)])
        except ValueError as error:
            raise HpoError(f"{path} is not in the published format ({error}); delete it for a new download") from error
        return Source(inputs, labels, test_inputs, test_labels, self.classes)

    def corrupted_tests(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """The chosen corruptions, one severity after the other: 10,000 images each; see `Dataset.corrupted_tests`."""
        if self.corrupted:
            path = data_folder(self.folder) / ARCHIVES[f"{self.archive}-c"].name
            for name, images, labels in read_corrupted(path, self.corruptions, self.severities):
                yield name, self.standardise(images.float()), labels

    @property
    def standardisation(self) -> tuple[Sequence[float], Sequence[float]]:
        chosen = {"pixels": self.pixel_deviations, "images": self.image_deviations}
        return self.means, chosen[self.deviations] if isinstance(self.deviations, str) else self.deviations

    def _read(self, files: Sequence[bytearray]) -> tuple[Tensor, Tensor]:
        """Standardised images [M, 3, 32, 32] and labels [M] from files of records (label bytes, then pixels)."""
        size = self.label_bytes + PIXEL_BYTES
        for content in files:
            if not content or len(content) % size:
                raise ValueError(f"{len(content)} bytes are not a multiple of {size}, the size of a record")
        records = [torch.frombuffer(content, dtype=torch.uint8).view(-1, size) for content in files]
        labels = torch.cat([part[:, self.label_bytes - 1] for part in records]).long()
        if int(labels.max()) >= self.classes:
            raise ValueError(f"a label is {int(labels.max())}")
        images = torch.empty(len(labels), *SHAPE)
        for target, part in zip(images.split([len(part) for part in records]), records, strict=True):
            target.copy_(part[:, self.label_bytes :].view(-1, *SHAPE))
        return self.standardise(images), labels


@dataclass(frozen=True)
class Cifar10(_Cifar):
    """CIFAR-10: 50,000 + 10,000 colour images of 32×32 pixels in 10 classes.

    Asymmetric label noise is that of Patrini et al. (CVPR 2017, arXiv:1609.03683): truck → automobile, bird →
    airplane, deer → horse, cat ↔ dog.
    """

    archive: ClassVar[str] = "cifar-10"
    classes: ClassVar[int] = 10
    label_bytes: ClassVar[int] = 1
    training_files: ClassVar[Sequence[str]] = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
    test_file: ClassVar[str] = "test_batch.bin"
    means: ClassVar[Sequence[float]] = (0.4914, 0.4822, 0.4465)
    pixel_deviations: ClassVar[Sequence[float]] = (0.2470, 0.2435, 0.2616)
    image_deviations: ClassVar[Sequence[float]] = (0.2023, 0.1994, 0.2010)
    confusions: ClassVar[Mapping[int, int]] = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}


@dataclass(frozen=True)
class Cifar100(_Cifar):
    """CIFAR-100: 50,000 + 10,000 colour images of 32×32 pixels in 100 classes."""

    archive: ClassVar[str] = "cifar-100"
    classes: ClassVar[int] = 100
    label_bytes: ClassVar[int] = 2  # the superclass, then the class
    training_files: ClassVar[Sequence[str]] = ("train.bin",)
    test_file: ClassVar[str] = "test.bin"
    means: ClassVar[Sequence[float]] = (0.5071, 0.4865, 0.4409)
    pixel_deviations: ClassVar[Sequence[float]] = (0.2673, 0.2564, 0.2762)
    image_deviations: ClassVar[Sequence[float]] = (0.2009, 0.1984, 0.2023)
