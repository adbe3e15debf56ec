"""Folders of small images in the layout of ImageNet."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, seed: int, size: tuple[int, int] = (40, 32), mode: str = "RGB") -> Path:
    """A smooth random image, so that JPEG changes it little."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BILINEAR).convert(mode).save(path)
    return path


def image_folder(root: Path, counts: Mapping[str, Mapping[str, int]] | None = None) -> Path:
    """A folder with `counts`: part → class → number of images; by default 40 in two classes."""
    counts = counts or {"train": {"cat": 16, "dog": 16}, "val": {"cat": 4, "dog": 4}}
    seed = 0
    for part, classes in counts.items():
        for name, count in classes.items():
            for number in range(count):
                size = (40 + 3 * (number % 4), 32 + 5 * (number % 3))
                write_image(root / part / name / f"{name}_{number:03}.jpg", seed, size)
                seed += 1
    return root
