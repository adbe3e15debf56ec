"""Augmentations of a batch: each sample's variation depends only on its key, on any device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.random import integer, normal, uniform

# Every draw of a key has its number, so that switching one augmentation off does not change the others. Those of
# hpo.data.rand_augment and hpo.data.resized_crop begin at 2²⁴, far above the numbers of the noise.
ROW, COLUMN, FLIP, HOLE, HOLE_ROW, HOLE_COLUMN, SHIFT, SCALE = range(8)
# A normal number uses the uniform draws 2d and 2d + 1: from 4 on these are different from the draws above.
NOISE = 4


def crop_and_flip(images: Tensor, keys: Tensor, padding: int, flip: float, background: Sequence[float]) -> Tensor:
    """Random crops [N, C, H, W] of the padded images, flipped horizontally with probability `flip`.

    Args:
        images: [N, C, H, W]. padding: pixels added on every side; 0: no crop.
        background: the value of the padding, per channel.
    """
    if not padding and not flip:
        return images
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=keys.device).expand(len(keys), -1)
    columns = torch.arange(width, device=keys.device).expand(len(keys), -1)
    if flip:
        columns = torch.where((uniform(keys, FLIP) < flip)[:, None], width - 1 - columns, columns)
    if not padding:
        return _gather(images, rows, columns)

    rows = rows + (integer(keys, ROW, 2 * padding + 1) - padding)[:, None]
    columns = columns + (integer(keys, COLUMN, 2 * padding + 1) - padding)[:, None]
    inside = _cross((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
    # Scalars are filled in on the device; a copy from the CPU would synchronise and cannot be in a CUDA graph.
    around = torch.stack([images.new_full((1, 1), value) for value in background])
    return torch.where(inside, _gather(images, rows.clamp(0, height - 1), columns.clamp(0, width - 1)), around)


def cut_out(images: Tensor, keys: Tensor, size: int, probability: float) -> Tensor:
    """Cutout (DeVries & Taylor, arXiv:1708.04552): with a probability, a square of zeros around a random pixel.

    Args:
        images: [N, C, H, W], standardised, so that 0 is the mean colour.
        size: side of the square in pixels, which may reach beyond the image; 0: no cutout.
    """
    if not size or not probability:
        return images
    height, width = images.shape[-2:]
    top = (integer(keys, HOLE_ROW, height) - size // 2)[:, None]
    left = (integer(keys, HOLE_COLUMN, width) - size // 2)[:, None]
    rows, columns = torch.arange(height, device=keys.device), torch.arange(width, device=keys.device)
    square = _cross((rows >= top) & (rows < top + size), (columns >= left) & (columns < left + size))
    cut = (uniform(keys, HOLE) < probability)[:, None, None, None]
    return images.masked_fill(square & cut, 0)


def shift_around(sequences: Tensor, keys: Tensor, limit: int) -> Tensor:
    """Sequences [N, L] shifted by −limit … limit positions; what leaves one end enters at the other."""
    if not limit:
        return sequences
    length = sequences.shape[1]
    shifts = integer(keys, SHIFT, 2 * limit + 1) - limit
    return sequences.gather(1, (torch.arange(length, device=keys.device) - shifts[:, None]) % length)


def rescale(inputs: Tensor, keys: Tensor, width: float) -> Tensor:
    """Inputs [N, ...] times 1 + width · u, with one u per sample, uniform between −1/2 and 1/2."""
    if not width:
        return inputs
    _require_floats("rescale", inputs)
    factors = 1 + width * (uniform(keys, SCALE).to(inputs.dtype) - 0.5)
    return inputs * factors.view(-1, *[1] * (inputs.dim() - 1))


def add_noise(inputs: Tensor, keys: Tensor, deviation: float) -> Tensor:
    """Inputs [N, ...] plus independent normal noise with this standard deviation on every value."""
    if not deviation:
        return inputs
    _require_floats("add_noise", inputs)
    numbers = torch.arange(NOISE, NOISE + inputs[0].numel(), device=keys.device)
    noise = normal(keys[:, None], numbers).to(inputs.dtype)
    return inputs + deviation * noise.view(inputs.shape)


def _require_floats(function: str, inputs: Tensor) -> None:
    """Raises UsageError for integers, on which noise and factors would be lost."""
    if not inputs.is_floating_point():
        kind = str(inputs.dtype).removeprefix("torch.")
        raise UsageError(f"{function} got {kind} inputs; convert them to floats in load()")


def _cross(rows: Tensor, columns: Tensor) -> Tensor:
    """[N, 1, H, W]: true where both the row [N, H] and the column [N, W] are."""
    return rows[:, None, :, None] & columns[:, None, None, :]


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of images [N, C, H, W] at rows [N, H] × columns [N, W]."""
    channels, width = images.shape[1], images.shape[-1]
    indices = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    return images.flatten(2).gather(2, indices[:, None].expand(-1, channels, -1)).view(images.shape)
