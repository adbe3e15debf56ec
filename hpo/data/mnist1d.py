"""MNIST-1D (Greydanus & Kobak, arXiv:2011.14439): 40 measurements of a stylised digit, generated, not downloaded."""

import random
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpo.data.augmentation import add_noise, rescale, shift_around
from hpo.data.cache import cache_folder
from hpo.data.source import Dataset, Source, augmentation, require
from hpo.errors import HpoError, UsageError, is_whole

ARRAYS = ("x", "y", "x_test", "y_test")


@dataclass(frozen=True)
class Mnist1d(Dataset):
    """MNIST-1D with the package's own generator and settings.

    Attributes:
        samples: how many are generated, a multiple of 10; the first 80% are for training and validation, the rest
            is the test set.
        generator_seed: of the generator; 42 is the published data set.
        augmented: whether training sees every sequence shifted, scaled and with a little noise, as the generator
            itself varies its templates.
        shift: the most measurements that a sequence moves to either side, around its ends as in the generator. The
            generator's own shifts never cut a digit in two; another one may if the digit is within `shift` of an
            end, so that only small values keep the data what they are. 0 for none.
        scale: width of the factors' range around 1, half to either side (the generator: 0.4); 0 for none.
        jitter: standard deviation of the noise on the standardised scale (the generator's is 0.13); 0 for none.
    """

    samples: int = 4000
    generator_seed: int = 42
    augmented: bool = False
    shift: int = augmentation(4)
    scale: float = augmentation(0.2)
    jitter: float = augmentation(0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "shift", is_whole(self.shift, 0), "a whole number of measurements, 0 for none")
        require(self, "scale", 0 <= self.scale < 2, "a width below 2, 0 for none")
        require(self, "jitter", self.jitter >= 0, "a standard deviation, 0 for none")
        if not isinstance(self.samples, int) or self.samples < 50 or self.samples % 10:
            raise UsageError(f"Mnist1d: samples is {self.samples!r}; give a multiple of 10, at least 50")

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
    except Exception:  # not there yet, or damaged in any of the ways that an archive can be: made anew
        arrays = _generate(samples, seed)
    _write(path, arrays)
    return arrays


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes beside the file's place and renames, so that no other process ever reads half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            beside = Path(file.name)
            try:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.flush()
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
    except OSError as error:
        raise HpoError(
            f"the data set cannot be cached in {path.parent} ({error.strerror}); "
            "set HPO_CACHE to a folder that can be written to"
        ) from error


def _generate(samples: int, seed: int) -> dict[str, np.ndarray]:
    from mnist1d.data import get_dataset_args, make_dataset
    from mnist1d.utils import ObjectView

    settings = get_dataset_args(as_dict=True) | {"num_samples": samples, "seed": seed}
    # The package seeds the global generators; a caller's own draws must not notice.
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        dataset = make_dataset(ObjectView(settings))
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
    return {name: np.asarray(dataset[name]) for name in ARRAYS}
