"""RandAugment and Cutout of single images by Pillow, for images that are read while training.

RandAugment is that of `hpo.data.rand_augment`, with the same draws: an image and a key give the same pixels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hpo.data.rand_augment import BINS, DRAW, GEOMETRIC, OPERATIONS, affine_matrix
from hpo.random import integer, uniform

if TYPE_CHECKING:
    from PIL.Image import Image

HOLE, HOLE_ROW, HOLE_COLUMN = 64, 65, 66  # the numbers of the draws; those of a random crop are lower


class Changes(NamedTuple):
    """What happens to an image after its crop.

    Attributes:
        operations, magnitude: of RandAugment. cutout: side of the square; 0: none. probability: of a cutout.
        colour: of the square, in bytes.
    """

    operations: int
    magnitude: int
    cutout: int
    probability: float
    colour: tuple[int, int, int]


def draw_changes(keys: Tensor, changes: Changes, size: int) -> Tensor:
    """The draws [..., operations + 3] of images of size × size with keys [...].

    They are the operations of RandAugment, each 2 · its number + 1 for the minus sign; whether there is a cutout; and
    the row and column of its middle.
    """
    keys = keys[..., None]
    chosen = integer(keys, DRAW + torch.arange(changes.operations), 2 * len(OPERATIONS))
    cut = uniform(keys, HOLE) < changes.probability
    return torch.cat([chosen, cut, integer(keys, HOLE_ROW, size), integer(keys, HOLE_COLUMN, size)], -1)


def change_image(image: "Image", changes: Changes, draws: Sequence[int]) -> "Image":
    """The image after its operations and its cutout; draws: a row of `draw_changes`."""
    *chosen, cut, row, column = draws
    for number in chosen:
        image = operate(image, OPERATIONS[number // 2], (-1) ** number * changes.magnitude / (BINS - 1))
    if cut and changes.cutout:
        top, left = row - changes.cutout // 2, column - changes.cutout // 2
        image.paste(changes.colour, (left, top, left + changes.cutout, top + changes.cutout))
    return image


def operate(image: "Image", operation: str, share: float) -> "Image":
    """A copy after one operation of RandAugment, at a share from −1 to 1 of its largest strength."""
    from PIL import Image, ImageEnhance, ImageOps

    if operation in OPERATIONS[1:GEOMETRIC]:
        matrix = affine_matrix(operation, share, image.height, image.width)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
    if operation in ("Brightness", "Color", "Contrast", "Sharpness"):
        enhancer: ImageEnhance._Enhance = getattr(ImageEnhance, operation)(image)
        return enhancer.enhance(1 + 0.9 * share)
    match operation:
        case "Posterize":
            return ImageOps.posterize(image, 8 - round(4 * abs(share)))
        case "Solarize":
            return ImageOps.solarize(image, 255 * (1 - abs(share)))  # type: ignore[arg-type]
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
    return image.copy()
