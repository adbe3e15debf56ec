"""Augmentations of a batch: each sample's own, from its key alone; gathered by index, wherever the batch lives."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.random import integer, normal, uniform

# The number of every draw that a key is asked for: switching one augmentation off leaves the others as they were.
ROW, COLUMN, FLIP, HOLE, HOLE_ROW, HOLE_COLUMN, SHIFT, SCALE = range(8)
# A normal number takes the uniform draws 2d and 2d + 1: from here on they are not among those above.
NOISE = 4


def crop_and_flip(images: Tensor, keys: Tensor, padding: int, flip: float, background: Sequence[float]) -> Tensor:
    """A crop of the images' own size from the padded image, then mirrored left to right with probability `flip`.

    Args:
        images: [N, C, H, W]. padding: pixels added on every side; 0 takes no crop.
        background: the value of the padding, by channel.
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
    # Scalars are filled in on the device; a copy from the CPU would wait for it and cannot be in a CUDA graph.
    around = torch.stack([images.new_full((1, 1), value) for value in background])
    return torch.where(inside, _gather(images, rows.clamp(0, height - 1), columns.clamp(0, width - 1)), around)


def cut_out(images: Tensor, keys: Tensor, size: int, probability: float) -> Tensor:
    """Cutout (DeVries & Taylor, arXiv:1708.04552): a square of zeros, with a probability, around a random pixel.

    Args:
        images: [N, C, H, W], standardised, so that 0 is the mean colour.
        size: side of the square in pixels, 0 for none; what lies outside the image is cut off.
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


def shift_around(sequences: Tensor, keys: Tensor, most: int) -> Tensor:
    """Sequences [N, L] moved by −most … most places; what leaves at one end comes in at the other."""
    if not most:
        return sequences
    length = sequences.shape[1]
    shifts = integer(keys, SHIFT, 2 * most + 1) - most
    return sequences.gather(1, (torch.arange(length, device=keys.device) - shifts[:, None]) % length)


def rescale(inputs: Tensor, keys: Tensor, width: float) -> Tensor:
    """Inputs [N, ...] times 1 + width · u, u uniform between −1/2 and 1/2 and one for a sample."""
    if not width:
        return inputs
    _require_floats("rescale", inputs)
    factors = 1 + width * (uniform(keys, SCALE).to(inputs.dtype) - 0.5)
    return inputs * factors.view(-1, *[1] * (inputs.dim() - 1))


def add_noise(inputs: Tensor, keys: Tensor, deviation: float) -> Tensor:
    """Inputs [N, ...] plus independent normal noise of that standard deviation on every number."""
    if not deviation:
        return inputs
    _require_floats("add_noise", inputs)
    numbers = torch.arange(NOISE, NOISE + inputs[0].numel(), device=keys.device)
    noise = normal(keys[:, None], numbers).to(inputs.dtype)
    return inputs + deviation * noise.view(inputs.shape)


def _require_floats(who: str, inputs: Tensor) -> None:
    """Raises UsageError for whole numbers, which would lose what is added to them."""
    if not inputs.is_floating_point():
        kind = str(inputs.dtype).removeprefix("torch.")
        raise UsageError(f"{who} is given {kind} inputs; convert them to floats in load()")


def _cross(rows: Tensor, columns: Tensor) -> Tensor:
    """[N, 1, H, W]: where both the row [N, H] and the column [N, W] hold."""
    return rows[:, None, :, None] & columns[:, None, None, :]


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Every image's pixels at its own rows [N, H] × columns [N, W]."""
    channels, width = images.shape[1], images.shape[-1]
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    return images.flatten(2).gather(2, places[:, None].expand(-1, channels, -1)).view(images.shape)
