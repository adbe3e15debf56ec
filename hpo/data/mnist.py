"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., arXiv:1708.07747): 28×28 grey values in 10 classes."""

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from hpo.data.archives import ARCHIVES, obtain
from hpo.data.cache import data_folder
from hpo.data.published_images import PublishedImages
from hpo.data.source import Source, augmentation
from hpo.errors import HpoError

CLASSES = 10
FILES = ("train-images", "train-labels", "test-images", "test-labels")


@dataclass(frozen=True)
class Mnist(PublishedImages):
    """MNIST: 60,000 + 10,000 handwritten digits of 28×28 grey values, downloaded on first use.

    The files have the same names as those of Fashion-MNIST; `folder` and `HPO_DATA` may contain them in `MNIST/raw`,
    as torchvision stores them, where a download is stored as well.

    Attributes:
        padding: here by default 2 pixels, as digits fill the middle 20×20 pixels.
    """

    padding: int = augmentation(2)

    subfolder: ClassVar[str] = "MNIST/raw"
    archives: ClassVar[str] = "mnist"  # the first part of the keys in ARCHIVES
    # Over the 60,000 training images, with pixels from 0 to 1.
    mean: ClassVar[float] = 0.1307
    deviation: ClassVar[float] = 0.3081

    @property
    def standardisation(self) -> tuple[Sequence[float], Sequence[float]]:
        return (self.mean,), (self.deviation,)

    def load(self) -> Source:
        """inputs [60000, 1, 28, 28] and test inputs [10000, 1, 28, 28], standardised float32 (220 MB).

        Raises:
            HpoError: a file can neither be found nor downloaded, or is not the published one.
        """
        folder = data_folder(self.folder)
        archives = [ARCHIVES[f"{self.archives}/{name}"] for name in FILES]
        if not (self.folder and (folder / archives[0].name).exists()):
            folder /= self.subfolder
        images, labels, test_images, test_labels = (
            read_idx(obtain(archive, folder), 3 if archive.name.find("idx3") > 0 else 1) for archive in archives
        )
        inputs, test_inputs = (self.standardise(part[:, None].float()) for part in (images, test_images))
        return Source(inputs, labels.long(), test_inputs, test_labels.long(), CLASSES)


@dataclass(frozen=True)
class FashionMnist(Mnist):
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes of 28×28 grey values, downloaded on first use.

    Its files have the same names as those of MNIST; `folder` and `HPO_DATA` may contain them in `FashionMNIST/raw`.
    """

    padding: int = augmentation(4)
    flip: float = augmentation(0.5)

    subfolder: ClassVar[str] = "FashionMNIST/raw"
    archives: ClassVar[str] = "fashion"
    mean: ClassVar[float] = 0.2860
    deviation: ClassVar[float] = 0.3530


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The bytes of a gzipped IDX file as uint8, such as images [M, H, W] with 3 dimensions.

    The format: two zeros, 8 for unsigned bytes, the number of dimensions, each size in 4 bytes, then the values.

    Raises:
        HpoError: it is not such a file.
    """
    try:
        content = bytearray(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error) as error:
        raise HpoError(f"{path} cannot be unpacked ({error}); delete it for a new download") from error
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4)]
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) != start + math.prod(shape) or not shape[0]:
        raise HpoError(f"{path} is not an IDX file of {dimensions} dimensions; delete it for a new download")
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(shape)
