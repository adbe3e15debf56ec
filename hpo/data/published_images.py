"""Images from published files, with the augmentations of their field as fields of a data set."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hpo.data import rand_augment
from hpo.data.augmentation import crop_and_flip, cut_out
from hpo.data.augmented_images import AugmentedImages
from hpo.data.resized_crop import resized_crop
from hpo.data.source import augmentation
from hpo.errors import is_whole


@dataclass(frozen=True, kw_only=True)
class PublishedImages(AugmentedImages):
    """Standardised images [M, C, H, W]: training sees random crops and the other augmentations in their order.

    Attributes:
        folder: the folder of the published files, or of their download; by default `HPO_DATA`, else the cache. It is
            not part of a study's definition: it may differ between machines.
        scale, ratio: the range of a random crop's share of the area, and of its width divided by its height; the crop
            is resized to the image's size (RandomResizedCrop). scale=None: no such crop.
        padding: black pixels around the image before a random crop of its size; 0: no crop.
    """

    folder: str | os.PathLike[str] | None = field(default=None, metadata={"described": False})
    scale: tuple[float, float] | None = field(default=None, metadata={"described": "resizes_crops"})
    ratio: tuple[float, float] = field(default=(3 / 4, 4 / 3), metadata={"described": "resizes_crops"})
    padding: int = augmentation(0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("padding", is_whole(self.padding, 0), "a whole number of pixels, 0 for none")
        shares = self.scale is None or (_is_range(self.scale) and self.scale[1] <= 1)
        self._require("scale", shares, "two shares of the area, the smaller one first, or None")
        self._require("ratio", _is_range(self.ratio), "two numbers above 0, the smaller one first")

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
    def resizes_crops(self) -> bool:
        return self.augmented and self.scale is not None

    @property
    def augments(self) -> bool:
        moves = self.augmented and bool(self.padding or self.flip)
        return moves or self.resizes_crops or self.uses_rand_augment or self.uses_cutout

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        """Images [N, C, H, W] cropped, flipped, changed by RandAugment and with a cutout; see `Dataset.augment`."""
        if not self.augmented:
            return inputs
        if self.scale is not None:
            inputs = resized_crop(inputs, keys, self.scale, self.ratio)
        black = [-mean / deviation for mean, deviation in zip(*self.standardisation, strict=True)]
        images = crop_and_flip(inputs, keys, self.padding, self.flip, black)
        if self.rand_augment:
            images = self._change_pixels(images, keys)
        return cut_out(images, keys, self.cutout, self.cutout_probability)

    def _change_pixels(self, images: Tensor, keys: Tensor) -> Tensor:
        """RandAugment of standardised images, whose pixels are rounded to whole numbers before."""
        # Numbers are filled in on the device: a copy from the CPU cannot be in a CUDA graph.
        means, deviations = (
            torch.stack([images.new_full((1, 1), value) for value in values]) for values in self.standardisation
        )
        pixels = ((images * deviations + means) * 255).round().clamp(0, 255).to(torch.int64)
        changed = rand_augment.rand_augment(pixels, keys, self.rand_augment, self.magnitude)
        return (changed.to(images.dtype) / 255 - means) / deviations


def _is_range(given: object) -> bool:
    if not isinstance(given, tuple) or len(given) != 2:
        return False
    return all(isinstance(end, int | float) for end in given) and 0 < given[0] <= given[1] < math.inf
