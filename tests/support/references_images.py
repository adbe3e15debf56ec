"""Slow, obviously right versions of augmentations of images: one image, one draw at a time, with Pillow."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from references_data import crop_and_flip, cut_out, integer, uniform

# As in torchvision's RandAugment.
NAMES = [
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
]  # fmt: skip

Pixels = np.ndarray  # uint8 [C, H, W]


def operate(pixels: Pixels, name: str, share: float) -> Pixels:
    """One operation of RandAugment, at a share from −1 to 1 of its largest strength."""
    image = Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0])
    width, height = image.size

    def mapped(*matrix: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)

    def enhanced(kind: type[ImageEnhance._Enhance]) -> Image.Image:
        return kind(image).enhance(1 + 0.9 * share)

    shift = 150 / 331 * share
    changed = {
        "Identity": lambda: image,
        "ShearX": lambda: mapped(1, 0.3 * share, 0, 0, 1, 0),
        "ShearY": lambda: mapped(1, 0, 0, 0.3 * share, 1, 0),
        "TranslateX": lambda: mapped(1, 0, -int(shift * width), 0, 1, 0),
        "TranslateY": lambda: mapped(1, 0, 0, 0, 1, -int(shift * height)),
        "Rotate": lambda: image.rotate(30 * share),
        "Brightness": lambda: enhanced(ImageEnhance.Brightness),
        "Color": lambda: enhanced(ImageEnhance.Color),
        "Contrast": lambda: enhanced(ImageEnhance.Contrast),
        "Sharpness": lambda: enhanced(ImageEnhance.Sharpness),
        "Posterize": lambda: ImageOps.posterize(image, 8 - round(4 * abs(share))),
        "Solarize": lambda: ImageOps.solarize(image, 255 * (1 - abs(share))),  # type: ignore[arg-type]
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Equalize": lambda: ImageOps.equalize(image),
    }[name]()
    result = np.asarray(changed)
    return result.transpose(2, 0, 1) if len(pixels) == 3 else result[None]


def rand_augment(pixels: Pixels, key: int, operations: int, magnitude: int) -> Pixels:
    for number in range(operations):
        chosen = integer(key, 2**24 + number, 28)
        pixels = operate(pixels, NAMES[chosen // 2], (-1) ** chosen * magnitude / 30)
    return pixels


def choose_crop(
    key: int, height: int, width: int, scale: Sequence[float], ratio: Sequence[float]
) -> tuple[int, int, int, int]:
    """Top, left, height and width: the first of ten crops that fits, else the central one."""
    for attempt in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * uniform(key, 2**25 + attempt))
        low, high = math.log(ratio[0]), math.log(ratio[1])
        shape = math.exp(low + (high - low) * uniform(key, 2 * 2**25 + attempt))
        columns, rows = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < columns <= width and 0 < rows <= height:
            top = integer(key, 3 * 2**25, height - rows + 1)
            return top, integer(key, 4 * 2**25, width - columns + 1), rows, columns
    rows, columns = height, width
    if width / height < ratio[0]:
        rows = round(width / ratio[0])
    elif width / height > ratio[1]:
        columns = round(height * ratio[1])
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def resized_crop(image: np.ndarray, key: int, scale: Sequence[float], ratio: Sequence[float]) -> np.ndarray:
    """Float image [C, H, W]: the crop's channels resized by Pillow."""
    _, height, width = image.shape
    top, left, rows, columns = choose_crop(key, height, width, scale, ratio)
    channels = [
        Image.fromarray(channel[top : top + rows, left : left + columns].astype(np.float32)) for channel in image
    ]
    return np.stack([np.asarray(one.resize((width, height), Image.Resampling.BILINEAR)) for one in channels])


def strong_augment(image: np.ndarray, key: int, means: Sequence[float], deviations: Sequence[float]) -> np.ndarray:
    """Random crops of the images' size, flips, three operations of RandAugment of strength 12, and a cutout."""
    black = [-mean / deviation for mean, deviation in zip(means, deviations, strict=True)]
    flipped = crop_and_flip(image, key, 4, 0.5, black)
    mean, deviation = (np.asarray(values)[:, None, None] for values in (means, deviations))
    pixels = ((flipped * deviation + mean) * 255).round().clip(0, 255).astype(np.uint8)
    changed = rand_augment(pixels, key, 3, 12) / 255
    return cut_out((changed - mean) / deviation, key, 16, 0.5)
