"""Images from published files, with the augmentations of their field as fields of a data set."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from hpo.data.augmentation import crop_and_flip, cut_out
from hpo.data.source import Dataset, augmentation
from hpo.errors import is_whole


@dataclass(frozen=True, kw_only=True)
class PublishedImages(Dataset):
    """Standardised images [M, C, H, W] that training sees cropped, flipped and with a cutout.

    Attributes:
        folder: the folder of the published files, or of their download; by default `HPO_DATA`, else the cache. It is
            not part of a study's definition: it may differ between machines.
        augmented: whether training sees augmented images.
        padding: black pixels around the image before a random crop of its size; 0: no crop.
        flip: probability of a horizontal flip; 0: no flip.
        cutout: side in pixels of the square that is set to the mean colour; 0: no cutout.
        cutout_probability: probability of a cutout.
    """

    folder: str | os.PathLike[str] | None = field(default=None, metadata={"described": False})
    augmented: bool = False
    padding: int = augmentation(0)
    flip: float = augmentation(0.0)
    cutout: int = augmentation(0)
    cutout_probability: float = augmentation(0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("padding", "cutout"):
            self._require(name, is_whole(getattr(self, name), 0), "a whole number of pixels, 0 for none")
        for name in ("flip", "cutout_probability"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a probability between 0 and 1")

    @property
    def standardisation(self) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and standard deviation of every channel, with pixels from 0 to 1, by which `load` scales images."""
        raise NotImplementedError

    def standardise(self, images: Tensor) -> Tensor:
        """Float images [M, C, H, W] with pixels from 0 to 255, standardised in place."""
        for channel, (mean, deviation) in enumerate(zip(*self.standardisation, strict=True)):
            images[:, channel].div_(255).sub_(mean).div_(deviation)
        return images

    @property
    def augments(self) -> bool:
        return self.augmented and bool(self.padding or self.flip or (self.cutout and self.cutout_probability))

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        """Images [N, C, H, W] cropped, flipped and with a cutout; see `Dataset.augment`."""
        if not self.augmented:
            return inputs
        black = [-mean / deviation for mean, deviation in zip(*self.standardisation, strict=True)]
        cropped = crop_and_flip(inputs, keys, self.padding, self.flip, black)
        return cut_out(cropped, keys, self.cutout, self.cutout_probability)
