"""Images as bytes of pixels: decoded, cropped and resized by Pillow, each crop from the draws of its own key."""

import math
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpo.data.image_changes import Changes, change_image, draw_changes
from hpo.random import uniform

if TYPE_CHECKING:
    from PIL.Image import Image

ATTEMPTS = 10  # at a random crop that fits into the image
FLIP = 4 * ATTEMPTS  # the number of the draw; each attempt uses four
DRAWS = FLIP + 1
Box = tuple[int, int, int, int]  # left, top, right, bottom


class Crops(NamedTuple):
    """How an image becomes `size` × `size` pixels.

    Attributes:
        size: side of the result. resize: the shorter side of an image before its central crop without augmentation.
        scale, ratio: the range of a random crop's share of the image's area, and of its width divided by its height.
        flip: probability of a horizontal flip. changes: of a random crop after that.
    """

    size: int
    resize: int
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: float
    changes: Changes | None = None


class Request(NamedTuple):
    """N images to read.

    Attributes:
        paths: N files. keys: N rows of one key for each of V random crops. central: whether a last view has the central
            crop.
    """

    paths: Sequence[str]
    keys: Sequence[Sequence[int]]
    central: bool


class BrokenImage(NamedTuple):
    """A file that cannot be decoded, and why."""

    path: str
    reason: str


def read_images(request: Request, crops: Crops) -> Tensor | BrokenImage:
    """The pixels [V, N, 3, size, size], uint8, with the central crop as the last view."""
    views = len(request.keys[0])
    pixels = np.empty((views + request.central, len(request.paths), 3, crops.size, crops.size), np.uint8)
    draws = _draw(torch.tensor(request.keys), crops) if views else None
    for number, path in enumerate(request.paths):
        image = decode(path)
        if isinstance(image, BrokenImage):
            return image
        shown = [_random_view(image, crops, *of_view) for of_view in draws[number]] if draws else []
        shown += [central_crop(image, crops)] if request.central else []
        for view, cropped in enumerate(shown):
            pixels[view, number] = np.asarray(cropped).transpose(2, 0, 1)
    return torch.from_numpy(pixels)


def _draw(keys: Tensor, crops: Crops) -> list[list[tuple[list[float], list[int]]]]:
    """The draws of every key [N, V]: those of its crop, and those of its changes."""
    of_crops = uniform(keys.unsqueeze(-1), torch.arange(DRAWS)).tolist()
    if crops.changes is None:
        return [[(row, []) for row in rows] for rows in of_crops]
    of_changes = draw_changes(keys, crops.changes, crops.size).tolist()
    return [list(zip(*rows, strict=True)) for rows in zip(of_crops, of_changes, strict=True)]


def _random_view(image: "Image", crops: Crops, draws: Sequence[float], change_draws: Sequence[int]) -> "Image":
    cropped = random_crop(image, crops, draws)
    return cropped if crops.changes is None else change_image(cropped, crops.changes, change_draws)


def decode(path: str | os.PathLike[str]) -> "Image | BrokenImage":
    """The whole image in three colours, whatever its own mode."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():  # damaged metadata and palettes with transparency do not change the pixels
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.mode[0] not in "IF":
                    return image.convert("RGB")
                if image.mode[:2] == "I;" or image.format == "PNG":  # Pillow clips 16 bits to 255
                    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
                return BrokenImage(str(path), "it has 32-bit pixels: convert it to 8 bits")
    except UnidentifiedImageError:
        return BrokenImage(str(path), "it is no image that Pillow knows")
    except OSError as error:
        return BrokenImage(str(path), error.strerror or str(error))
    except MemoryError:
        raise
    except Exception as error:  # damaged files make Pillow raise SyntaxError, ValueError, struct.error and more
        return BrokenImage(str(path), str(error) or type(error).__name__)


def random_crop(image: "Image", crops: Crops, draws: Sequence[float]) -> "Image":
    """RandomResizedCrop (Szegedy et al., arXiv:1409.4842, section 6) and a flip, as in torchvision.

    Args:
        draws: DRAWS numbers in [0, 1).
    """
    from PIL.Image import Resampling, Transpose

    box = random_box(*image.size, crops, draws)
    cropped = image.crop(box).resize((crops.size, crops.size), Resampling.BILINEAR)
    return cropped.transpose(Transpose.FLIP_LEFT_RIGHT) if draws[FLIP] < crops.flip else cropped


def random_box(width: int, height: int, crops: Crops, draws: Sequence[float]) -> Box:
    """The first of ATTEMPTS random boxes that fits into the image, else the largest central one of a valid ratio."""
    (low, high), (narrow, wide) = crops.scale, crops.ratio
    for attempt in range(ATTEMPTS):
        share, shape, across, down = draws[4 * attempt : 4 * attempt + 4]
        area = width * height * (low + (high - low) * share)
        ratio = math.exp(math.log(narrow) + (math.log(wide) - math.log(narrow)) * shape)
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            left, top = int(across * (width - columns + 1)), int(down * (height - rows + 1))
            return left, top, left + columns, top + rows
    ratio = min(max(width / height, narrow), wide)
    columns, rows = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - columns) // 2, (height - rows) // 2
    return left, top, left + columns, top + rows


def central_crop(image: "Image", crops: Crops) -> "Image":
    """The central square of the image whose shorter side was resized."""
    from PIL.Image import Resampling

    width, height = image.size
    shorter = min(width, height)
    size = (int(crops.resize * width / shorter), int(crops.resize * height / shorter))
    resized = image if size == image.size else image.resize(size, Resampling.BILINEAR)
    left, top = (round((side - crops.size) / 2) for side in size)
    return resized.crop((left, top, left + crops.size, top + crops.size))
