"""scikit-learn's `digits` (UCI "Optical Recognition of Handwritten Digits", its test part): 8×8 images, no network."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hpo.data.augmentation import add_noise, crop_and_flip
from hpo.data.source import Dataset, Source, augmentation, require
from hpo.errors import HpoError, is_whole

CLASSES = 10
TESTED = 36  # images of every class in the test set: a fifth of them all
# Of the grey values, 0 to 1, outside the test set.
MEAN, DEVIATION = 0.3053, 0.3755


@dataclass(frozen=True)
class Digits(Dataset):
    """1797 handwritten digits of 8×8 grey values, real images that need no network (needs scikit-learn).

    The test set is the last 36 images of every class in the order of the file, 360 in all: the same for every seed,
    and mostly of writers whose digits are not among the other 1437.

    Attributes:
        augmented: whether training sees every image moved by up to `shift` pixels and with a little noise.
        shift: in pixels, up and down and to the sides; 0 for none.
        jitter: standard deviation of the noise, on the standardised scale; 0 for none.
    """

    augmented: bool = False
    shift: int = augmentation(1)
    jitter: float = augmentation(0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "shift", is_whole(self.shift, 0), "a whole number of pixels, 0 for none")
        require(self, "jitter", self.jitter >= 0, "a standard deviation, 0 for none")

    def load(self) -> Source:
        """inputs [1437, 1, 8, 8] and test inputs [360, 1, 8, 8], standardised; 10 classes.

        Raises:
            HpoError: scikit-learn is not installed.
        """
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise HpoError("Digits needs the scikit-learn package: pip install 'scikit-learn>=1.5'") from error
        grey, classes = load_digits(return_X_y=True)
        images = (torch.from_numpy(grey).float().view(-1, 1, 8, 8) / 16 - MEAN) / DEVIATION
        labels = torch.from_numpy(classes).long()
        tested = torch.zeros(len(labels), dtype=torch.bool)
        for label in range(CLASSES):
            tested[(labels == label).nonzero()[-TESTED:, 0]] = True
        return Source(images[~tested], labels[~tested], images[tested], labels[tested], CLASSES)

    @property
    def augments(self) -> bool:
        return self.augmented and bool(self.shift or self.jitter)

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        """Images [N, 1, 8, 8] moved and with noise; see `Dataset.augment`."""
        if not self.augmented:
            return inputs
        moved = crop_and_flip(inputs, keys, self.shift, 0, [-MEAN / DEVIATION])
        return add_noise(moved, keys, self.jitter)
