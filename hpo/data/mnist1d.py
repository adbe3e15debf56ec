"""MNIST-1D (Greydanus & Kobak, arXiv:2011.14439): 40 measurements of a stylised digit, generated, not downloaded."""

import hashlib
import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo.data.augmentation import add_noise, rescale, shift_around
from hpo.data.cache import cache_folder
from hpo.data.source import Dataset, Source, augmentation
from hpo.errors import HpoError, UsageError, is_whole

ARRAYS = ("x", "y", "x_test", "y_test")


def _generator(default: Any) -> Any:
    """An argument of the generator; all of them are part of the definition if one has another value."""
    return field(default=default, metadata={"described": "changes_generator", "generator": True})


@dataclass(frozen=True)
class Mnist1d(Dataset):
    """MNIST-1D with the package's own generator; the defaults are its settings, except for the number of samples.

    Attributes:
        samples: number of generated samples, a multiple of 10 (the generator: 5000).
        generator_seed: the generator's seed; 42 gives the published data set.
        train_split: the share of the samples, the first ones, for training and validation; the rest is the test set.
        template_len: measurements that the 12 points of a digit's template count when templates are stretched.
        padding: fewest and most zeros that are added to a template.
        scale_coeff: width of the range of factors around 1.
        max_translation: largest shift before subsampling; what leaves one end enters at the other.
        corr_noise_scale, iid_noise_scale: standard deviations of the noise around the digit, before it is smoothed,
            and of the independent noise on every measurement.
        shear_scale: width of the range of slopes that are subtracted.
        shuffle_seq: whether all sequences are permuted by one random permutation.
        final_seq_length: measurements of a sample.
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
    train_split: float = _generator(0.8)
    template_len: int = _generator(12)
    padding: tuple[int, int] = _generator((36, 60))
    scale_coeff: float = _generator(0.4)
    max_translation: int = _generator(48)
    corr_noise_scale: float = _generator(0.25)
    iid_noise_scale: float = _generator(0.02)
    shear_scale: float = _generator(0.75)
    shuffle_seq: bool = _generator(False)
    final_seq_length: int = _generator(40)
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
        self._check_generator()

    def _check_generator(self) -> None:
        parts = 0 < self.train_split < 1 and 0 < int(self.samples * self.train_split) < self.samples
        self._require("train_split", parts, "a share that leaves samples for both parts")
        for name in ("template_len", "max_translation", "final_seq_length"):
            self._require(name, is_whole(getattr(self, name), 1), "a whole number of at least 1")
        object.__setattr__(self, "padding", tuple(self.padding) if isinstance(self.padding, list) else self.padding)
        pair = isinstance(self.padding, tuple) and len(self.padding) == 2
        pair = pair and all(is_whole(zeros, 0) for zeros in self.padding) and self.padding[0] <= self.padding[1]
        self._require("padding", pair, "two whole numbers, the smaller one first")
        for name in ("scale_coeff", "corr_noise_scale", "iid_noise_scale", "shear_scale"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "a number of at least 0")
        self._require("shuffle_seq", isinstance(self.shuffle_seq, bool), "True or False")
        if self.shuffle_seq and self.augmented and self.shift:
            raise UsageError("Mnist1d: shuffle_seq permutes the sequences, which then cannot be shifted; give shift=0")

    def load(self) -> Source:
        """inputs [0.8 · samples, 40] and test inputs [0.2 · samples, 40] by default, standardised; 10 classes."""
        own = {"num_samples": self.samples, "seed": self.generator_seed}
        arrays = _cached(own | {argument.name: getattr(self, argument.name) for argument in _arguments()})
        x, y, test_x, test_y = (torch.from_numpy(arrays[name]) for name in ARRAYS)
        return Source(x.float(), y.long(), test_x.float(), test_y.long(), classes=10)

    @property
    def changes_generator(self) -> bool:
        """Whether an argument of the generator, other than samples and seed, differs from the package's."""
        return any(getattr(self, argument.name) != argument.default for argument in _arguments())

    @property
    def augments(self) -> bool:
        return self.augmented and bool(self.shift or self.scale or self.jitter)

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        """Sequences [N, L] scaled, shifted and with noise, in the generator's order; see `Dataset.augment`."""
        if not self.augmented:
            return inputs
        scaled = rescale(inputs, keys, self.scale)
        return add_noise(shift_around(scaled, keys, self.shift), keys, self.jitter)


def _arguments() -> list[Field[Any]]:
    return [argument for argument in fields(Mnist1d) if "generator" in argument.metadata]


def _cached(settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    # The package's version is in the name for what else its generator does: importing it takes a second.
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / f"mnist1d-{version('mnist1d')}-{settings['num_samples']}-{digest}.npz"
    try:
        with path.open("rb") as file, np.load(file) as stored:
            return {name: stored[name] for name in ARRAYS}
    except Exception:  # missing, or damaged in any of the ways in which an archive can be
        arrays = _generate(settings)
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


def _generate(settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The package's arrays. It seeds the global generators, which every `load` restores."""
    from mnist1d.data import make_dataset
    from mnist1d.utils import ObjectView

    dataset = make_dataset(ObjectView(dict(settings)))
    return {name: np.asarray(dataset[name]) for name in ARRAYS}
