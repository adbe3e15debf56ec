"""RandAugment (Cubuk et al., arXiv:1909.13719) of a batch, with the operations and strengths that torchvision uses.

Pixels are whole numbers, and every operation gives what Pillow gives. The 14 operations are of three kinds, each of
which is computed for all images at once: geometric ones move pixels by an affine map, blends mix the image with a
simpler one, and lookups give every pixel value of a channel another value.
"""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from hpo.random import integer

# The first draw of a key for RandAugment; see hpo.data.augmentation.
DRAW = 1 << 24
BINS = 31  # magnitudes 0 … 30
OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
    *("Brightness", "Color", "Contrast", "Sharpness"),
    *("Posterize", "Solarize", "AutoContrast", "Equalize"),
)
GEOMETRIC, BLENDS = 6, 10  # the numbers of the first operation that is no longer geometric, no longer a blend
FIXED = 1 << 16  # Pillow computes affine maps with 16 binary places


def rand_augment(pixels: Tensor, keys: Tensor, operations: int, magnitude: int) -> Tensor:
    """Images after `operations` random ones of the 14 operations, each image after its own.

    Args:
        pixels: int64 [N, C, H, W], 0 … 255, with 1 or 3 channels. magnitude: 0 … 30, the strength of all operations.
            Whether it has a minus sign, as in a rotation to the left, is random.
    """
    strengths = _strengths(magnitude, pixels.shape[-2], pixels.shape[-1], pixels.device)
    for number in range(operations):
        pixels = _apply(pixels, integer(keys, DRAW + number, 2 * len(OPERATIONS)), strengths)
    return pixels


def _apply(pixels: Tensor, chosen: Tensor, strengths: "_Strengths") -> Tensor:
    """Images after one operation each; `chosen` [N] is 2 · its number in `OPERATIONS` + 1 for the minus sign."""
    operation = (chosen // 2)[:, None, None, None]
    moved = _move(pixels, strengths.matrices[chosen])
    blended = _blend(pixels, operation, strengths.factors[chosen])
    looked_up = _tables(pixels, operation[..., 0], strengths).gather(2, pixels.flatten(2)).view(pixels.shape)
    return torch.where(operation < GEOMETRIC, moved, torch.where(operation < BLENDS, blended, looked_up))


class _Strengths(NamedTuple):
    """What a magnitude means for images of one size; the rows of tensors are 2 · operation + sign.

    Attributes:
        matrices: int64 [28, 6], of the affine map from a pixel's place to the place that it is taken from, in units of
            1/FIXED. factors: [28], of blends. mask: of the bits that Posterize keeps. threshold: of Solarize.
    """

    matrices: Tensor
    factors: Tensor
    mask: int
    threshold: float


@functools.cache  # a CUDA graph cannot contain the copies from the CPU
def _strengths(magnitude: int, height: int, width: int, device: torch.device) -> _Strengths:
    share = magnitude / (BINS - 1)
    rows = [(name, sign * share) for name in OPERATIONS for sign in (1, -1)]
    matrices = [_fixed(affine_matrix(name, signed, height, width)) for name, signed in rows]
    factors = [1 + 0.9 * signed for _, signed in rows]
    bits = 8 - round(4 * share)
    mask = 256 - 2 ** (8 - bits)
    return _Strengths(
        torch.tensor(matrices, device=device), torch.tensor(factors, device=device), mask, 255 * (1 - share)
    )


def affine_matrix(operation: str, share: float, height: int, width: int) -> tuple[float, ...]:
    """a … f: the pixel at column x, row y is taken from column a·x + b·y + c, row d·x + e·y + f."""
    if operation == "Rotate":  # around the middle, by up to 30 degrees
        angle = -math.radians(30 * share)
        cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
        x, y = width / 2, height / 2
        return cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y
    shift = 150 / 331 * share
    return {
        "ShearX": (1, 0.3 * share, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, 0.3 * share, 1, 0),
        "TranslateX": (1, 0, -int(shift * width), 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, -int(shift * height)),
    }.get(operation, (1, 0, 0, 0, 1, 0))


def _fixed(matrix: tuple[float, ...]) -> list[int]:
    """The coefficients in units of 1/FIXED, for the middle of a pixel instead of its corner."""
    a, b, c, d, e, f = matrix
    return [math.floor(value * FIXED + 0.5) for value in (a, b, c + a / 2 + b / 2, d, e, f + d / 2 + e / 2)]


def _move(pixels: Tensor, matrices: Tensor) -> Tensor:
    """Images [N, C, H, W] mapped by matrices [N, 6] to the nearest pixel; black where there is none."""
    height, width = pixels.shape[-2:]
    x, y = torch.arange(width, device=pixels.device), torch.arange(height, device=pixels.device)[:, None]
    a, b, c, d, e, f = matrices[:, :, None, None].unbind(1)
    columns, rows = (a * x + b * y + c) // FIXED, (d * x + e * y + f) // FIXED
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    moved = pixels.flatten(2).gather(2, places.flatten(1)[:, None].expand(-1, pixels.shape[1], -1))
    return moved.view(pixels.shape) * inside[:, None]


def _blend(pixels: Tensor, operation: Tensor, factors: Tensor) -> Tensor:
    """factor · image + (1 − factor) · black, its grey image, its mean grey, or the smoothed image."""
    grey = _grey(pixels)
    count = grey[0].numel()
    mean = (2 * grey.sum((1, 2, 3), keepdim=True) + count) // (2 * count)
    other = torch.zeros_like(pixels)
    for name, simpler in (("Color", grey), ("Contrast", mean), ("Sharpness", _smooth(pixels))):
        other = torch.where(operation == OPERATIONS.index(name), simpler, other)
    mixed = other + factors[:, None, None, None] * (pixels - other)
    return mixed.clamp(0, 255).to(torch.int64)


def _grey(pixels: Tensor) -> Tensor:
    """Luminance [N, 1, H, W] by ITU-R 601-2, in Pillow's whole numbers."""
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = pixels.split(1, 1)
    return (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536


def _smooth(pixels: Tensor) -> Tensor:
    """Each pixel inside the border becomes the mean of its 3×3 square, in which it counts five times."""
    height, width = pixels.shape[-2:]
    squares = [
        pixels[..., row : height - 2 + row, column : width - 2 + column] for row in range(3) for column in range(3)
    ]
    total = torch.stack(squares).sum(0) + 4 * pixels[..., 1:-1, 1:-1]
    smooth = pixels.clone()
    smooth[..., 1:-1, 1:-1] = (2 * total + 13) // 26
    return smooth


def _tables(pixels: Tensor, operation: Tensor, strengths: _Strengths) -> Tensor:
    """The new value [N, C, 256] of every pixel value of every channel."""
    values = torch.arange(256, device=pixels.device)
    flat = pixels.flatten(2)
    low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
    span = (high - low).clamp(min=1).double()
    stretch = torch.full_like(span, 255) / span  # 255 / span would multiply by a rounded 1 / span
    stretched = (values * stretch - low * stretch).clamp(0, 255).to(torch.int64)
    tables = {
        "Posterize": values & strengths.mask,
        "Solarize": torch.where(values < strengths.threshold, values, 255 - values),
        "AutoContrast": torch.where(high > low, stretched, values),
        "Equalize": _equalised(flat, high, values),
    }
    chosen = values.expand(*flat.shape[:2], -1)
    for name, table in tables.items():
        chosen = torch.where(operation == OPERATIONS.index(name), table, chosen)
    return chosen


def _equalised(flat: Tensor, high: Tensor, values: Tensor) -> Tensor:
    """The table [N, C, 256] that makes values equally frequent; flat: [N, C, H·W], high: the largest value."""
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.int64, device=flat.device)
    counts = counts.scatter_add(2, flat, torch.ones_like(flat))
    step = (flat.shape[2] - counts.gather(2, high)) // 255
    below = counts.cumsum(2) - counts
    table = (step // 2 + below) // step.clamp(min=1)
    return torch.where(step > 0, table.clamp(0, 255), values)
