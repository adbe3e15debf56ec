"""The augmentations that data sets of images have in common, as fields."""

from dataclasses import dataclass, field

from hpo.data.rand_augment import BINS
from hpo.data.source import Dataset, augmentation
from hpo.errors import is_whole


@dataclass(frozen=True, kw_only=True)
class AugmentedImages(Dataset):
    """Images that training sees augmented.

    Attributes:
        augmented: whether training sees augmented images.
        flip: probability of a horizontal flip; 0: no flip.
        rand_augment: number of random operations of RandAugment; 0: none. magnitude: their strength, 0 to 30.
        cutout: side in pixels of the square that is set to the mean colour; 0: no cutout.
        cutout_probability: probability of a cutout.
    """

    augmented: bool = False
    flip: float = augmentation(0.0)
    rand_augment: int = field(default=0, metadata={"described": "uses_rand_augment"})
    magnitude: int = field(default=9, metadata={"described": "uses_rand_augment"})
    cutout: int = augmentation(0)
    cutout_probability: float = augmentation(0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("rand_augment", is_whole(self.rand_augment, 0), "a number of operations, 0 for none")
        strong = is_whole(self.magnitude, 0) and self.magnitude < BINS
        self._require("magnitude", strong, f"a whole number from 0 to {BINS - 1}")
        self._require("cutout", is_whole(self.cutout, 0), "a whole number of pixels, 0 for none")
        for name in ("flip", "cutout_probability"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a probability between 0 and 1")

    @property
    def uses_rand_augment(self) -> bool:
        return self.augmented and self.rand_augment > 0

    @property
    def uses_cutout(self) -> bool:
        return self.augmented and self.cutout > 0 and self.cutout_probability > 0
