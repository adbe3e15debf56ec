"""MNIST-1D (Greydanus & Kobak, arXiv:2011.14439): 40 measurements of a stylised digit, generated, not downloaded."""

import secrets
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpo.data.augmentation import add_noise, rescale, shift_around
from hpo.data.cache import cache_folder
from hpo.data.source import Dataset, Source, augmentation
from hpo.errors import HpoError, is_whole

ARRAYS = ("x", "y", "x_test", "y_test")


@dataclass(frozen=True)
class Mnist1d(Dataset):
    """MNIST-1D with the package's own generator and settings.

    Attributes:
        samples: number of generated samples, a multiple of 10; the first 80% are for training and validation, the rest
            is the test set.
        generator_seed: the generator's seed; 42 gives the published data set.
        augmented: whether training sees every sequence shifted, scaled and with a little noise, in the way that the
            generator varies its templates.
        shift: largest shift in measurements, in both directions; what leaves one end enters at the other, as in the
            generator. The generator's own shifts never cut a digit in two; others may if the digit is within `shift`
            of an end, so that only small values leave the data as they are. 0: no shift.
        scale: width of the range of factors around 1 (the generator: 0.4); 0: no scaling.
        jitter: standard deviation of the noise on the standardised scale (the generator: 0.13); 0: no noise.
    """

    samples: int = 4000
    generator_seed: int = 42
    augmented: bool = False
    shift: int = augmentation(4)
    scale: float = augmentation(0.2)
    jitter: float = augmentation(0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("shift", is_whole(self.shift, 0), "a whole number of measurements, 0 for none")
        self._require("scale", 0 <= self.scale < 2, "a width below 2, 0 for none")
        self._require("jitter", self.jitter >= 0, "a standard deviation, 0 for none")
        valid = is_whole(self.samples, 50) and self.samples % 10 == 0
        self._require("samples", valid, "a multiple of 10, at least 50")

    def load(self) -> Source:
        """inputs [0.8 · samples, 40] and test inputs [0.2 · samples, 40], standardised; 10 classes."""
        arrays = _cached(self.samples, self.generator_seed)
        x, y, test_x, test_y = (torch.from_numpy(arrays[name]) for name in ARRAYS)
        return Source(x.float(), y.long(), test_x.float(), test_y.long(), classes=10)

    @property
    def augments(self) -> bool:
        return self.augmented and bool(self.shift or self.scale or self.jitter)

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        """Sequences [N, 40] scaled, shifted and with noise, in the generator's order; see `Dataset.augment`."""
        if not self.augmented:
            return inputs
        scaled = rescale(inputs, keys, self.scale)
        return add_noise(shift_around(scaled, keys, self.shift), keys, self.jitter)


def _cached(samples: int, seed: int) -> dict[str, np.ndarray]:
    # The version stands for the generator's settings: importing the package takes a second.
    path = cache_folder() / f"mnist1d-{version('mnist1d')}-{samples}-{seed}.npz"
    try:
        with path.open("rb") as file, np.load(file) as stored:
            return {name: stored[name] for name in ARRAYS}
    except Exception:  # missing, or damaged in any of the ways in which an archive can be
        arrays = _generate(samples, seed)
    _write(path, arrays)
    return arrays


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes to a temporary name and renames, so that no other process reads half a file."""
    part = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(part, **arrays)  # type: ignore[arg-type]
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise HpoError(
            f"the data set cannot be cached in {path.parent} ({error.strerror}); set HPO_CACHE to a writable folder"
        ) from error


def _generate(samples: int, seed: int) -> dict[str, np.ndarray]:
    """The package's arrays. It seeds the global generators, which every `load` restores."""
    from mnist1d.data import get_dataset_args, make_dataset
    from mnist1d.utils import ObjectView

    settings = get_dataset_args(as_dict=True) | {"num_samples": samples, "seed": seed}
    dataset = make_dataset(ObjectView(settings))
    return {name: np.asarray(dataset[name]) for name in ARRAYS}
