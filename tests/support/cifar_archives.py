"""Small archives in the format of the published ones, with random pixels, whose checksums the package accepts."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from hpo.data.archives import ARCHIVES, Archive

FOLDERS = {"cifar-10": "cifar-10-batches-bin", "cifar-100": "cifar-100-binary"}


def records(name: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Images [count, 3, 32, 32] uint8, labels [count] and the bytes of a file with these records."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    labels = generator.permutation(np.arange(count) % (10 if name == "cifar-10" else 100)).astype(np.uint8)
    parts = []
    for image, label in zip(images, labels, strict=True):
        coarse = b"" if name == "cifar-10" else bytes([200 + label % 20])  # never a class
        parts.append(coarse + bytes([label]) + image.tobytes())
    return images, labels, b"".join(parts)


def contents(name: str, count: int) -> dict[str, bytes]:
    """The published archive's files, with `count` records each; the i-th file of records has seed i."""
    if name == "cifar-10":
        files = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
        texts = {"batches.meta.txt": b"airplane\n", "readme.html": b"<html>"}
    else:
        files = ["train.bin", "test.bin"]
        texts = {"coarse_label_names.txt": b"fish\n", "fine_label_names.txt": b"apple\n"}
    return texts | {file: records(name, count, seed)[2] for seed, file in enumerate(files)}


def write_archive(path: Path, files: dict[str, bytes], folder: str) -> bytes:
    """A .tar.gz with a folder and the files in it, the last first; returns its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        inside = tarfile.TarInfo(folder)
        inside.type = tarfile.DIRTYPE
        archive.addfile(inside)
        for file, content in reversed(files.items()):
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path.read_bytes()


def accept(monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, url: str = "") -> None:
    """Makes the checksum of these bytes the published one; by default they are nowhere to be fetched."""
    address = url or f"http://127.0.0.1:1/{ARCHIVES[name].name}"
    monkeypatch.setitem(ARCHIVES, name, Archive(address, hashlib.md5(content).hexdigest()))


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, count: int = 20) -> Path:
    """An accepted archive in a folder: `Cifar10(folder=folder)` reads 5 · count + count images."""
    path = folder / f"{name}-binary.tar.gz"
    accept(monkeypatch, name, write_archive(path, contents(name, count), FOLDERS[name]))
    return path
