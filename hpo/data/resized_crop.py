"""Random resized crops of a batch, as of "Going Deeper with Convolutions" (Szegedy et al., arXiv:1409.4842)."""

import math

import torch
from torch import Tensor

from hpo.random import uniform

ATTEMPTS = 10  # at a crop that fits into the image
# The first draws of a key; see hpo.data.augmentation.
AREA, RATIO, TOP, LEFT = (number << 25 for number in (1, 2, 3, 4))


def resized_crop(images: Tensor, keys: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Random crops, each resized to the images' size by bilinear interpolation.

    Args:
        images: [N, C, H, W]. scale: the range of a crop's share of the area. ratio: the range of its width divided by
            its height, which is uniform on a logarithmic scale.
    """
    top, left, height, width = choose_crops(keys, images.shape[-2], images.shape[-1], scale, ratio)
    return _resample(_resample(images, top, height, 2), left, width, 3)


def choose_crops(
    keys: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width [N] of the first of ten random crops that fits, else of the largest central one."""
    numbers = torch.arange(ATTEMPTS, device=keys.device)
    areas, ratios = (uniform(keys[:, None], first + numbers).double() for first in (AREA, RATIO))
    areas = height * width * (scale[0] + (scale[1] - scale[0]) * areas)
    low, high = (math.log(end) for end in ratio)
    ratios = (low + (high - low) * ratios).exp()
    widths, heights = (areas * ratios).sqrt().round().long(), (areas / ratios).sqrt().round().long()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    missed = (fits.cumsum(1) == 0).sum(1)  # attempts before the first that fits
    place = missed.clamp(max=ATTEMPTS - 1)[:, None]
    central = missed == ATTEMPTS
    central_height, central_width = _central(height, width, ratio)
    rows = torch.where(central, central_height, heights.gather(1, place)[:, 0])
    columns = torch.where(central, central_width, widths.gather(1, place)[:, 0])
    top = (uniform(keys, TOP).double() * (height - rows + 1)).long()
    left = (uniform(keys, LEFT).double() * (width - columns + 1)).long()
    top = torch.where(central, (height - rows) // 2, top)
    return top, torch.where(central, (width - columns) // 2, left), rows, columns


def _central(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest central crop whose ratio is allowed."""
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    return height, round(height * ratio[1]) if width / height > ratio[1] else width


def _resample(images: Tensor, start: Tensor, length: Tensor, axis: int) -> Tensor:
    """Part of an axis, `length` [N] pixels from `start` [N], stretched to its whole size."""
    size = images.shape[axis]
    middles = torch.arange(size, device=images.device) + 0.5
    places = (middles * (length / size)[:, None].to(images.dtype) - 0.5).clamp(min=0)
    places = torch.minimum(places, (length - 1)[:, None].to(images.dtype))
    low = places.long()
    high = torch.minimum(low + 1, length[:, None] - 1)
    shape = [len(images), 1, *[size if each == axis else 1 for each in (2, 3)]]

    def at(indices: Tensor) -> Tensor:
        return images.gather(axis, (indices + start[:, None]).view(shape).expand(images.shape))

    return torch.lerp(at(low), at(high), (places - low).view(shape).to(images.dtype))
