"""scikit-learn's `digits` (the test part of UCI "Optical Recognition of Handwritten Digits"): 8×8 images, offline."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hpo.data.augmentation import add_noise, crop_and_flip
from hpo.data.source import Dataset, Source, augmentation
from hpo.errors import HpoError, is_whole

CLASSES = 10
TEST_IMAGES = 36  # of every class in the test set: a fifth of all images
# Mean and standard deviation of the grey values, 0 to 1, outside the test set.
MEAN, DEVIATION = 0.3053, 0.3755


@dataclass(frozen=True)
class Digits(Dataset):
    """1797 images of handwritten digits, 8×8 grey values each; no download, but needs scikit-learn.

    The test set is the last 36 images of every class in the order of the file, 360 in total: the same for every seed,
    and mostly from writers without an image among the other 1437.

    Attributes:
        augmented: whether training sees every image shifted by up to `shift` pixels and with a little noise.
        shift: largest shift in pixels, vertical and horizontal; 0: no shift.
        jitter: standard deviation of the noise on the standardised scale; 0: no noise.
    """

    augmented: bool = False
    shift: int = augmentation(1)
    jitter: float = augmentation(0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("shift", is_whole(self.shift, 0), "a whole number of pixels, 0 for none")
        self._require("jitter", self.jitter >= 0, "a standard deviation, 0 for none")

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
        test = torch.zeros(len(labels), dtype=torch.bool)
        for label in range(CLASSES):
            test[(labels == label).nonzero()[-TEST_IMAGES:, 0]] = True
        return Source(images[~test], labels[~test], images[test], labels[test], CLASSES)

    @property
    def augments(self) -> bool:
        return self.augmented and bool(self.shift or self.jitter)

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        """Images [N, 1, 8, 8] shifted and with noise; see `Dataset.augment`."""
        if not self.augmented:
            return inputs
        shifted = crop_and_flip(inputs, keys, self.shift, 0, [-MEAN / DEVIATION])
        return add_noise(shifted, keys, self.jitter)
