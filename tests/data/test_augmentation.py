"""Augmentations: equal to slow versions, dependent only on each sample's key, with the stated strengths."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import references_data as references
import references_images
import torch
from torch import Tensor

from hpo.data import Cifar10, Cifar100, Dataset, Digits, Mnist1d
from hpo.data import digits as digits_module
from hpo.data.augmentation import add_noise, crop_and_flip, cut_out, rescale
from hpo.errors import UsageError
from hpo.random import mix

pytestmark = pytest.mark.usefixtures("one_thread")

Slow = Callable[[np.ndarray, int], np.ndarray]
IMAGE = (3, 32, 32)


def slow_cifar(kind: type[Cifar10] | type[Cifar100]) -> Slow:
    return lambda image, key: references.cifar_augment(image, key, kind.means, kind.pixel_deviations)


def slow_strong(image: np.ndarray, key: int) -> np.ndarray:
    return references_images.strong_augment(image, key, Cifar10.means, Cifar10.pixel_deviations)


def slow_digits(image: np.ndarray, key: int) -> np.ndarray:
    return references.digits_augment(image, key, digits_module.MEAN, digits_module.DEVIATION)


CASES: dict[str, tuple[Dataset, tuple[int, ...], Slow]] = {
    "mnist1d": (Mnist1d(augmented=True), (40,), references.mnist1d_augment),
    "digits": (Digits(augmented=True), (1, 8, 8), slow_digits),
    "cifar10": (Cifar10(), IMAGE, slow_cifar(Cifar10)),
    "cifar100": (Cifar100(), IMAGE, slow_cifar(Cifar100)),
    "rand_augment": (Cifar10(rand_augment=3, magnitude=12), IMAGE, slow_strong),
}


def batch(shape: tuple[int, ...], samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """inputs [N, ...] in float64 and keys [N]."""
    inputs = torch.randn(samples, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return inputs, mix(torch.arange(samples), seed)


@pytest.mark.parametrize("name", CASES)
def test_slow_and_fast_are_equal(name: str) -> None:
    dataset, shape, slow = CASES[name]
    inputs, keys = batch(shape, 24, seed=1)
    before = inputs.clone()
    augmented = dataset.augment(inputs, keys)
    for sample, key, result in zip(inputs, keys, augmented, strict=True):
        np.testing.assert_allclose(result.numpy(), slow(sample.numpy(), int(key)), rtol=0, atol=2e-6)
    assert augmented.dtype == torch.float64
    assert torch.equal(inputs, before)
    assert dataset.augment(inputs.float(), keys).dtype == torch.float32


@pytest.mark.parametrize("name", CASES)
def test_a_sample_depends_only_on_its_key(name: str) -> None:
    """Not on the rest of the batch, its order or its size; and other keys give different samples."""
    dataset, shape, _ = CASES[name]
    inputs, keys = batch(shape, 30)
    together = dataset.augment(inputs, keys)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    assert torch.equal(dataset.augment(inputs[order], keys[order]), together[order])
    parts = [dataset.augment(inputs[start : start + 7], keys[start : start + 7]) for start in range(0, 30, 7)]
    assert torch.equal(torch.cat(parts), together)
    same = dataset.augment(inputs[:1].expand(30, *shape), keys)
    assert len({sample.numpy().tobytes() for sample in same}) > 15
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        assert torch.equal(dataset.augment(inputs, keys), together)
        drawn = torch.rand(1)
        torch.manual_seed(1)
        assert torch.equal(torch.rand(1), drawn)  # the global generator is unused


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_gives_what_the_cpu_gives(name: str) -> None:
    dataset, shape, _ = CASES[name]
    inputs, keys = batch(shape, 64)
    augmented = dataset.augment(inputs.cuda(), keys.cuda())
    torch.testing.assert_close(augmented.cpu(), dataset.augment(inputs, keys), rtol=0, atol=2e-6)


def test_shifts_scales_and_noise_have_the_stated_strengths() -> None:
    _, keys = batch((40,), 4000)
    steps = torch.arange(40.0).repeat(4000, 1)
    shifted = Mnist1d(augmented=True, shift=3, scale=0, jitter=0).augment(steps, keys)
    counts = torch.bincount((-shifted[:, 0].int() + 3) % 40, minlength=7)  # what was first has moved by −3 … 3
    assert len(counts) == 7
    assert all(abs(count - 4000 / 7) < 4 * (4000 * 6 / 49) ** 0.5 for count in counts.tolist())
    assert torch.equal(shifted.sort(1).values, steps)

    factors = Mnist1d(augmented=True, shift=0, scale=0.4, jitter=0).augment(torch.ones(4000, 40), keys)
    assert torch.equal(factors, factors[:, :1].expand(-1, 40))
    assert 0.8 <= factors.min() < 0.801
    assert 1.199 < factors.max() <= 1.2
    assert abs(factors[:, 0].mean() - 1) < 4 * 0.4 / 12**0.5 / 4000**0.5

    noise = Mnist1d(augmented=True, shift=0, scale=0, jitter=0.5).augment(torch.zeros(4000, 40), keys)
    assert abs(noise.mean()) < 4 * 0.5 / 400
    assert abs(noise.std() - 0.5) < 0.005
    correlations = torch.corrcoef(noise.T) - torch.eye(40)
    assert correlations.abs().max() < 6 / 4000**0.5


def test_crops_flips_and_cutouts_have_the_stated_frequencies() -> None:
    _, keys = batch((1,), 4000)
    rows = torch.arange(32.0)[:, None].expand(32, 32)
    images = torch.stack([rows, rows.T]).expand(4000, 2, 32, 32) + 100

    moved = Cifar10(flip=0, cutout=0)  # the middle pixel says how far each image has moved
    windows = crop_and_flip(images, keys, moved.padding, moved.flip, (0, 0))
    for axis in range(2):
        counts = torch.bincount((windows[:, axis, 16, 16] - 100 - 12).int(), minlength=9)
        assert len(counts) == 9
        assert all(abs(count - 4000 / 9) < 4 * (4000 * 8 / 81) ** 0.5 for count in counts.tolist())

    mirrored = crop_and_flip(images, keys, 0, 0.25, (0, 0))
    turned = mirrored[:, 1, 0, 0] == 131
    assert abs(turned.float().mean() - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert torch.equal(mirrored[turned], images[turned].flip(3))
    assert torch.equal(mirrored[~turned], images[~turned])

    holes = (cut_out(images, keys, 16, 0.5) == 0).all(1)
    sizes = holes.flatten(1).sum(1)
    cut = sizes > 0
    assert abs(cut.float().mean() - 0.5) < 4 * (0.25 / 4000) ** 0.5
    assert sizes.max() == 256
    assert sizes[cut].min() >= 64  # a square around a corner pixel keeps a quarter
    # A square of 16 around a pixel of 32 keeps 16 rows in 17 of 32 places, else between 8 and 15.
    kept = (17 * 16 + sum(range(8, 16)) + sum(range(9, 16))) / 32
    assert abs(sizes[cut].float().mean() - kept**2) < 8


def test_the_padding_is_black_and_a_cutout_is_the_mean_colour() -> None:
    _, keys = batch((1,), 200)
    for kind in (Cifar10, Cifar100):
        black = torch.tensor([(0 - mean) / sd for mean, sd in zip(kind.means, kind.pixel_deviations, strict=True)])
        cropped = kind(cutout=0).augment(torch.full((200, 3, 32, 32), 7.0), keys)
        around = cropped != 7
        assert around.any()
        assert torch.equal(cropped[around], black[None, :, None, None].expand_as(cropped)[around])
        cut = kind(padding=0, flip=0, cutout_probability=1).augment(torch.full((200, 3, 32, 32), 7.0), keys)
        assert set(cut.unique().tolist()) == {0.0, 7.0}


def test_switching_one_augmentation_off_does_not_change_the_others() -> None:
    inputs, keys = batch(IMAGE, 40)
    everything = Cifar10().augment(inputs, keys)
    without_cutout = Cifar10(cutout=0).augment(inputs, keys)
    assert torch.equal(Cifar10(padding=0, flip=0).augment(without_cutout, keys), everything)
    assert torch.equal(cut_out(without_cutout, keys, 16, 0.5), everything)
    only_flips, only_crops = Cifar10(padding=0, cutout=0), Cifar10(flip=0, cutout=0)
    flipped = (only_flips.augment(inputs, keys) != inputs).flatten(1).any(1)
    crops = only_crops.augment(inputs, keys)
    assert torch.equal(torch.where(flipped[:, None, None, None], crops.flip(3), crops), without_cutout)


OFF: list[Dataset] = [
    Dataset(),
    Mnist1d(),
    Digits(),
    Cifar10(augmented=False),
    Mnist1d(augmented=True, shift=0, scale=0, jitter=0),
    Digits(augmented=True, shift=0, jitter=0),
    Cifar10(padding=0, flip=0, cutout=0),
    Cifar100(padding=0, flip=0, cutout_probability=0),
]


@pytest.mark.parametrize("dataset", OFF, ids=repr)
def test_an_augmentation_that_is_off_changes_nothing(dataset: Dataset) -> None:
    inputs, keys = batch((40,) if isinstance(dataset, Mnist1d) else IMAGE, 5)
    assert not dataset.augments
    assert dataset.augment(inputs, keys) is inputs


def test_a_custom_augmentation_is_always_on() -> None:
    @dataclass(frozen=True)
    class Mirrored(Dataset):
        def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
            return torch.where((keys % 2 == 0)[:, None], -inputs, inputs)

    assert Mirrored().augments
    assert all(dataset.augments for dataset, _, _ in CASES.values())


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *((Mnist1d, "shift", -1), (Mnist1d, "shift", 1.5), (Mnist1d, "scale", 2.0), (Mnist1d, "jitter", -0.1)),
        *((Digits, "shift", True), (Digits, "jitter", float("nan")), (Cifar10, "padding", -4)),
        *((Cifar10, "cutout", 0.5), (Cifar100, "flip", 1.5), (Cifar100, "cutout_probability", -1)),
    ],
)
def test_wrong_strengths_are_refused(kind: type[Dataset], field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{kind.__name__}: {field} is {re.escape(repr(value))}; give "):
        kind(**{field: value})


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.bool])
def test_integers_are_neither_scaled_nor_given_noise(kind: torch.dtype) -> None:
    inputs, keys = torch.ones(3, 4).to(kind), torch.arange(3)
    for change in (rescale, add_noise):
        assert change(inputs, keys, 0.0) is inputs
        with pytest.raises(UsageError, match=f"{change.__name__} .*{str(kind)[6:]}"):
            change(inputs, keys, 0.5)
