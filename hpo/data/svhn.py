"""SVHN (Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", 2011)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hpo.data.archives import ARCHIVES, Archive, obtain
from hpo.data.cache import data_folder
from hpo.data.published_images import PublishedImages
from hpo.data.source import Source, augmentation
from hpo.errors import HpoError

CLASSES = 10
# Per channel, over the 73,257 training images, with pixels from 0 to 1.
MEANS = (0.4377, 0.4438, 0.4728)
DEVIATIONS = (0.1980, 0.2010, 0.1970)


@dataclass(frozen=True)
class Svhn(PublishedImages):
    """SVHN: 73,257 + 26,032 colour images of 32×32 pixels, each with a house number's digit, downloaded on first use.

    The default cutout is that of the experiments of Cutout (DeVries & Taylor, arXiv:1708.04552).

    Attributes:
        extra: whether the 531,131 simpler extra images are used for training and validation as well (7.4 GB).
    """

    extra: bool = False
    cutout: int = augmentation(20)
    cutout_probability: float = augmentation(1.0)

    @property
    def standardisation(self) -> tuple[Sequence[float], Sequence[float]]:
        return MEANS, DEVIATIONS

    def load(self) -> Source:
        """inputs [73257, 3, 32, 32] and test inputs [26032, 3, 32, 32], standardised float32 (1.2 GB).

        Raises:
            HpoError: a file can neither be found nor downloaded, or is not the published one.
        """
        folder = data_folder(self.folder)
        names = ["train", *(["extra"] if self.extra else []), "test"]
        *parts, (test_images, test_labels) = (_read(ARCHIVES[f"svhn/{name}"], folder) for name in names)
        inputs = self.standardise(torch.cat([images for images, _ in parts]).float())
        labels = torch.cat([labels for _, labels in parts])
        return Source(inputs, labels, self.standardise(test_images.float()), test_labels, CLASSES)


def _read(archive: Archive, folder: Path) -> tuple[Tensor, Tensor]:
    """Images [M, 3, 32, 32] as uint8 and labels [M]; the file has them as [32, 32, 3, M], and 10 for the digit 0."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = obtain(archive, folder)
    try:
        content = loadmat(path)
        images, labels = torch.from_numpy(content["X"]), torch.from_numpy(content["y"]).flatten().long()
        if images.dtype != torch.uint8 or images.shape != (32, 32, 3, len(labels)) or not len(labels):
            raise ValueError(f"X has shape {tuple(images.shape)} and y {len(labels)} labels")
        if int(labels.min()) < 1 or int(labels.max()) > CLASSES:
            raise ValueError(f"labels are {int(labels.min())} to {int(labels.max())}")
    except (MatReadError, ValueError, TypeError, KeyError, NotImplementedError, OSError) as error:
        raise HpoError(f"{path} is not in the published format ({error}); delete it for a new download") from error
    return images.permute(3, 2, 0, 1).contiguous(), labels % CLASSES
