"""RandAugment and random resized crops: equal to Pillow, with the published choices and frequencies."""

import math
import re
from typing import Any

import numpy as np
import pytest
import references_images as references
import torch

from hpo.data import Cifar10, Mnist
from hpo.data.rand_augment import OPERATIONS, _apply, _strengths, rand_augment
from hpo.data.resized_crop import choose_crops, resized_crop
from hpo.errors import UsageError
from hpo.random import mix

pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(channels: int, height: int, width: int) -> np.ndarray:
    """uint8 [7, C, H, W]: noise, low contrast, smooth gradients, and one colour."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (2, channels, height, width))
    steps = generator.normal(0, 8, (2, channels, height, width))
    smooth = (np.cumsum(steps, 3) + 128).clip(0, 255)
    return np.concatenate([noise, noise // 4 + 90, smooth, np.full((1, channels, height, width), 77)]).astype(np.uint8)


@pytest.mark.parametrize("magnitude", [0, 3, 9, 17, 30])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 20, 31)], ids=str)
def test_every_operation_is_that_of_pillow(shape: tuple[int, int, int], magnitude: int) -> None:
    given = pictures(*shape)
    pixels = torch.from_numpy(given).long()
    strengths = _strengths(magnitude, *shape[1:], pixels.device)
    assert list(OPERATIONS) == references.NAMES
    for number, name in enumerate(OPERATIONS):
        for sign in (0, 1):
            changed = _apply(pixels, torch.full((len(pixels),), 2 * number + sign), strengths)
            expected = [references.operate(image, name, (-1) ** sign * magnitude / 30) for image in given]
            assert np.array_equal(changed.numpy(), np.stack(expected)), name


def test_images_get_their_own_operations() -> None:
    given = pictures(3, 32, 32).repeat(4, 0)
    keys = mix(torch.arange(len(given)), 5)
    changed = rand_augment(torch.from_numpy(given).long(), keys, 2, 20)
    for image, key, result in zip(given, keys.tolist(), changed, strict=True):
        assert np.array_equal(result.numpy(), references.rand_augment(image, key, 2, 20))


def test_operations_and_signs_are_equally_frequent_and_independent() -> None:
    """The draws of the slow version, to which the fast one is equal: 14 operations · 2 signs, twice."""
    keys = mix(torch.arange(28 * 2000), 3).tolist()
    draws = np.asarray([[references.integer(key, 2**24 + number, 28) for number in range(2)] for key in keys])
    for column in draws.T:
        counts = np.bincount(column, minlength=28)
        assert len(counts) == 28
        assert ((counts - 2000) ** 2 / 2000).sum() < 27 + 4.5 * math.sqrt(2 * 27)
    pairs = np.bincount(28 * draws[:, 0] + draws[:, 1], minlength=784)
    expected = len(keys) / 784
    assert ((pairs - expected) ** 2 / expected).sum() < 783 + 4.5 * math.sqrt(2 * 783)


CROPS = [
    (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
    (28, 28, (0.5, 1.0), (3 / 4, 4 / 3)),
    (20, 60, (0.9, 1.0), (3 / 4, 4 / 3)),  # mostly central crops
    (60, 20, (0.9, 1.0), (3 / 4, 4 / 3)),
    (20, 20, (0.95, 1.0), (0.2, 5.0)),
]


@pytest.mark.parametrize("case", CROPS, ids=str)
def test_crops_are_the_first_that_fit(case: Any) -> None:
    keys = mix(torch.arange(600), 1)
    chosen = torch.stack(choose_crops(keys, *case), 1).tolist()
    assert [tuple(crop) for crop in chosen] == [references.choose_crop(key, *case) for key in keys.tolist()]


def test_crops_have_the_published_distribution() -> None:
    """The area is uniform, the logarithm of the ratio too, and the place, as far as the crop fits into the image."""
    keys = mix(torch.arange(8000), 9)
    top, left, height, width = (part.double() for part in choose_crops(keys, 400, 400, (0.08, 0.5), (3 / 4, 4 / 3)))
    for values, low, high in (
        (height * width / 400**2, 0.08, 0.5),
        ((width / height).log(), math.log(3 / 4), math.log(4 / 3)),
        (top / (400 - height + 1), 0, 1),
        (left / (400 - width + 1), 0, 1),
    ):
        shares = ((values - low) / (high - low)).sort().values
        distance = (shares - (torch.arange(8000) + 0.5) / 8000).abs().max()
        assert distance < 1.9 / 8000**0.5 + 0.005, "Kolmogorov-Smirnov, and whole pixels"
    corners = torch.corrcoef(torch.stack([top / (401 - height), left / (401 - width), height * width]))
    assert (corners - torch.eye(3)).abs().max() < 5 / 8000**0.5


@pytest.mark.parametrize("case", CROPS, ids=str)
def test_crops_are_resized_as_by_pillow(case: Any) -> None:
    height, width, scale, ratio = case
    images = torch.randn(30, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keys = mix(torch.arange(30), 2)
    for image, key, result in zip(images, keys.tolist(), resized_crop(images, keys, scale, ratio), strict=True):
        expected = references.resized_crop(image.numpy(), key, scale, ratio)
        np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-5)


def test_a_data_set_applies_what_its_fields_say() -> None:
    inputs = torch.randn(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    keys = mix(torch.arange(20), 4)
    crops = Mnist(augmented=True, padding=0, scale=(0.3, 0.9), ratio=(0.5, 2.0))
    assert crops.augments and torch.equal(crops.augment(inputs, keys), resized_crop(inputs, keys, (0.3, 0.9), (0.5, 2)))
    changed = Mnist(augmented=True, padding=0, rand_augment=2)
    assert changed.augments
    pixels = ((inputs * Mnist.deviation + Mnist.mean) * 255).round().clamp(0, 255).long()
    expected = (rand_augment(pixels, keys, 2, 9) / 255 - Mnist.mean) / Mnist.deviation
    torch.testing.assert_close(changed.augment(inputs, keys), expected, rtol=0, atol=1e-5)
    for off in (Mnist(scale=(0.3, 0.9)), Mnist(rand_augment=2)):
        assert not off.augments and off.augment(inputs, keys) is inputs


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("scale", (0.5, 0.1)), ("scale", (0.0, 1.0)), ("scale", (0.5, 1.5)), ("scale", 0.5), ("ratio", (2.0, 1.0))),
        *(("rand_augment", -1), ("rand_augment", 1.5), ("magnitude", 31), ("magnitude", True)),
    ],
)
def test_wrong_strengths_are_refused(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^Cifar10: {field} is {re.escape(repr(value))}; give "):
        Cifar10(**{field: value})
