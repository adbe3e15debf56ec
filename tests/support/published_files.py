"""Small files in the formats of MNIST and SVHN, with random pixels, whose checksums the package accepts."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from cifar_archives import accept

from hpo.data.archives import ARCHIVES


def idx(values: np.ndarray) -> bytes:
    """A gzipped IDX file, as on the page of MNIST: a magic number, the sizes, then the bytes."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes())


def publish_mnist(
    monkeypatch: pytest.MonkeyPatch, folder: Path, archives: str = "mnist", count: int = 20
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Accepted files in a folder; returns images [M, 28, 28] and labels [M] of "train" and "test"."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for seed, (part, samples) in enumerate({"train": 3 * count, "test": count}.items()):
        generator = np.random.default_rng([seed, len(archives)])
        images = generator.integers(0, 256, (samples, 28, 28), dtype=np.uint8)
        labels = generator.permutation(np.arange(samples) % 10).astype(np.uint8)
        parts[part] = images, labels
        for name, values in (("images", images), ("labels", labels)):
            put(monkeypatch, folder, f"{archives}/{part}-{name}", idx(values))
    return parts


def publish_svhn(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Accepted files in a folder; returns images [32, 32, 3, M] and labels [M, 1] of 1 … 10, 10 for the digit 0."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for seed, (part, samples) in enumerate({"train": 30, "extra": 20, "test": 10}.items()):
        generator = np.random.default_rng(seed)
        images = generator.integers(0, 256, (32, 32, 3, samples), dtype=np.uint8)
        labels = generator.permutation(1 + np.arange(samples) % 10).astype(np.uint8)[:, None]
        parts[part] = images, labels
        put(monkeypatch, folder, f"svhn/{part}", mat(folder, {"X": images, "y": labels}))
    return parts


def mat(folder: Path, arrays: dict[str, np.ndarray]) -> bytes:
    path = folder / "written.mat"
    scipy.io.savemat(path, arrays, do_compression=True)
    content = path.read_bytes()
    path.unlink()
    return content


def put(monkeypatch: pytest.MonkeyPatch, folder: Path, archive: str, content: bytes) -> Path:
    """Writes a published file and accepts its checksum."""
    path = folder / ARCHIVES[archive].name
    path.write_bytes(content)
    accept(monkeypatch, archive, content)
    assert hashlib.md5(content).hexdigest() == ARCHIVES[archive].md5
    return path
