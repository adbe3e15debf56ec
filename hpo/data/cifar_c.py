"""CIFAR-10-C and CIFAR-100-C: the test images, corrupted (Hendrycks & Dietterich, arXiv:1903.12261)."""

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpo.errors import HpoError

BENCHMARK = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
FURTHER = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # in the archive, not in the benchmark
SEVERITIES = 5


def read_corrupted(
    path: Path, corruptions: Sequence[str], severities: Sequence[int]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """For each corruption and severity its name, images [M, 3, 32, 32] as uint8, and labels [M].

    The archive has a file `<corruption>.npy` [5 M, 32, 32, 3], the severities one after the other, and `labels.npy`. It
    is read without being unpacked onto the disk, one file at a time.

    Raises:
        HpoError: the archive is not as published.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            members = {member.name.rpartition("/")[2]: member for member in archive}
            labels = torch.from_numpy(_read(archive, members["labels.npy"])).long()
            for name in corruptions:
                images = torch.from_numpy(_read(archive, members[f"{name}.npy"]))
                if images.dtype != torch.uint8 or images.shape != (len(labels), 32, 32, 3) or len(labels) % SEVERITIES:
                    raise ValueError(f"{name}.npy has shape {tuple(images.shape)}, and there are {len(labels)} labels")
                parts = zip(images.chunk(SEVERITIES), labels.chunk(SEVERITIES), strict=True)
                for severity, (some, their_labels) in enumerate(parts, 1):
                    if severity in severities:
                        yield name, some.permute(0, 3, 1, 2).contiguous(), their_labels
    except (tarfile.TarError, KeyError, ValueError, OSError) as error:
        raise HpoError(f"{path} is not in the published format ({error}); delete it for a new download") from error


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> np.ndarray:
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is no file")
    # From memory: numpy takes a member of an archive for a file on the disk, and fails.
    array: np.ndarray = np.load(io.BytesIO(file.read()), allow_pickle=False)
    return array
