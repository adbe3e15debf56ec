"""CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009)."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from hpo.data.archives import ARCHIVES, obtain, read_members
from hpo.data.augmentation import crop_and_flip, cut_out
from hpo.data.cache import data_folder
from hpo.data.source import Dataset, Source, augmentation
from hpo.errors import HpoError, is_whole

SHAPE = (3, 32, 32)  # channels, rows, columns, in the order of the bytes
PIXEL_BYTES = 3072


@dataclass(frozen=True)
class _Cifar(Dataset):
    """Colour images of 32×32 pixels from the published binary archive, which is downloaded on first use.

    The augmentations and their strengths are those of the experiments of SAM and its successors.

    Attributes:
        folder: the folder of the archive, or of its download; by default `HPO_DATA`, else the cache. It is not part of
            a study's definition: it may differ between machines.
        augmented: whether training sees every image cropped, flipped and with a cutout.
        padding: black pixels around the image before a random crop of its size; 0: no crop.
        flip: probability of a horizontal flip; 0: no flip.
        cutout: side in pixels of the square that is set to the mean colour; 0: no cutout.
        cutout_probability: probability of a cutout.
    """

    folder: str | os.PathLike[str] | None = field(default=None, metadata={"described": False})
    augmented: bool = True
    padding: int = augmentation(4)
    flip: float = augmentation(0.5)
    cutout: int = augmentation(16)
    cutout_probability: float = augmentation(0.5)

    archive: ClassVar[str]  # the key in ARCHIVES
    classes: ClassVar[int]
    label_bytes: ClassVar[int]  # before the pixels of a record; the last of them is the class
    training_files: ClassVar[Sequence[str]]
    test_file: ClassVar[str]
    # Per channel, over the 50,000 training images, with pixels from 0 to 1.
    means: ClassVar[Sequence[float]]
    deviations: ClassVar[Sequence[float]]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("padding", "cutout"):
            self._require(name, is_whole(getattr(self, name), 0), "a whole number of pixels, 0 for none")
        for name in ("flip", "cutout_probability"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a probability between 0 and 1")

    def load(self) -> Source:
        """inputs [50000, 3, 32, 32] and test inputs [10000, 3, 32, 32], standardised float32 (740 MB).

        Raises:
            HpoError: the archive can neither be found nor downloaded, or is not the published one.
        """
        path = obtain(ARCHIVES[self.archive], data_folder(self.folder))
        files = read_members(path, [*self.training_files, self.test_file])
        try:
            inputs, labels = self._read([files.pop(name) for name in self.training_files])
            test_inputs, test_labels = self._read([files.pop(self.test_file)])
        except ValueError as error:
            raise HpoError(f"{path} is not in the published format ({error}); delete it for a new download") from error
        return Source(inputs, labels, test_inputs, test_labels, self.classes)

    @property
    def augments(self) -> bool:
        return self.augmented and bool(self.padding or self.flip or (self.cutout and self.cutout_probability))

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        """Images [N, 3, 32, 32] cropped, flipped and with a cutout; see `Dataset.augment`."""
        if not self.augmented:
            return inputs
        black = [-mean / deviation for mean, deviation in zip(self.means, self.deviations, strict=True)]
        cropped = crop_and_flip(inputs, keys, self.padding, self.flip, black)
        return cut_out(cropped, keys, self.cutout, self.cutout_probability)

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
        for channel, (mean, deviation) in enumerate(zip(self.means, self.deviations, strict=True)):
            images[:, channel].div_(255).sub_(mean).div_(deviation)
        return images, labels


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
    deviations: ClassVar[Sequence[float]] = (0.2470, 0.2435, 0.2616)
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
    deviations: ClassVar[Sequence[float]] = (0.2673, 0.2564, 0.2762)
