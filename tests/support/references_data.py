"""Slow, obviously right versions of random draws and augmentations: one sample, one number at a time."""

import math
from collections.abc import Sequence

import numpy as np

MASK = 2**32 - 1

Image = np.ndarray  # [C, H, W]


def scramble(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK
    return x ^ (x >> 16)


def uniform(key: int, draw: int) -> float:
    """One number in [0, 1), a multiple of 2⁻²⁴."""
    mixed = scramble((scramble(key & MASK) * 0x9E3779B1 + draw) & MASK)
    return (mixed >> 8) / 2**24


def integer(key: int, draw: int, count: int) -> int:
    return math.floor(uniform(key, draw) * count)


def normal(key: int, draw: int) -> float:
    radius = math.sqrt(-2 * math.log(1 - uniform(key, 2 * draw)))
    return radius * math.cos(2 * math.pi * uniform(key, 2 * draw + 1))


def crop_and_flip(image: Image, key: int, padding: int, flip: float, background: Sequence[float]) -> Image:
    """Pads, cuts a window out of the padded image, then turns it round."""
    channels, height, width = image.shape
    padded = np.empty((channels, height + 2 * padding, width + 2 * padding))
    for channel in range(channels):
        padded[channel] = background[channel]
        for row in range(height):
            for column in range(width):
                padded[channel, row + padding, column + padding] = image[channel, row, column]
    top, left = integer(key, 0, 2 * padding + 1), integer(key, 1, 2 * padding + 1)
    window = padded[:, top : top + height, left : left + width]
    return window[:, :, ::-1] if uniform(key, 2) < flip else window


def cut_out(image: Image, key: int, size: int, probability: float) -> Image:
    """Zeros at every pixel within the square around a pixel of the image."""
    if uniform(key, 3) >= probability:
        return image
    _, height, width = image.shape
    top, left = integer(key, 4, height) - size // 2, integer(key, 5, width) - size // 2
    cut = image.copy()
    for row in range(height):
        for column in range(width):
            if 0 <= row - top < size and 0 <= column - left < size:
                cut[:, row, column] = 0
    return cut


def shift_around(sequence: np.ndarray, key: int, most: int) -> np.ndarray:
    """As the generator's own `translate`: the last k come to the front."""
    shift = integer(key, 6, 2 * most + 1) - most
    return np.asarray([sequence[(place - shift) % len(sequence)] for place in range(len(sequence))])


def rescale(values: np.ndarray, key: int, width: float) -> np.ndarray:
    return values * (1 + width * (uniform(key, 7) - 0.5))


def add_noise(values: np.ndarray, key: int, deviation: float) -> np.ndarray:
    noise = [normal(key, 4 + place) for place in range(values.size)]
    return values + deviation * np.asarray(noise).reshape(values.shape)


def cifar_augment(image: Image, key: int, means: Sequence[float], deviations: Sequence[float]) -> Image:
    """The published choices: padding 4, mirrored half the time, a 16×16 hole half the time."""
    black = [-mean / deviation for mean, deviation in zip(means, deviations, strict=True)]
    return cut_out(crop_and_flip(image, key, 4, 0.5, black), key, 16, 0.5)


def digits_augment(image: Image, key: int, mean: float, deviation: float) -> Image:
    return add_noise(crop_and_flip(image, key, 1, 0, [-mean / deviation]), key, 0.05)


def mnist1d_augment(sequence: np.ndarray, key: int) -> np.ndarray:
    return add_noise(shift_around(rescale(sequence, key, 0.2), key, 4), key, 0.1)
