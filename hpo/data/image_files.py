"""Inputs that are images in files: read when they are needed, as they do not fit into memory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hpo.data.image_reading import BrokenImage, Crops, Request, read_images
from hpo.errors import HpoError


class Colours:
    """Standardises pixels by the means and standard deviations of the channels, with pixels from 0 to 1."""

    def __init__(self, means: Sequence[float], deviations: Sequence[float]) -> None:
        self.means, self.deviations = (torch.tensor(values).view(3, 1, 1) for values in (means, deviations))

    def to(self, device: torch.device) -> "Colours":
        """The same on a device, so that calls need not copy anything to it."""
        moved = Colours([0.0] * 3, [1.0] * 3)
        moved.means, moved.deviations = self.means.to(device), self.deviations.to(device)
        return moved

    def __call__(self, pixels: Tensor) -> Tensor:
        """Inputs [..., 3, H, W], float32, from pixels in bytes."""
        return pixels.to(torch.float32).div_(255).sub_(self.means).div_(self.deviations)


class ImageFiles:
    """Inputs [M, 3, size, size] in files; indexing reads a few of them here and now, without augmentation.

    Attributes:
        folder: that the names are relative to. names: of the M files.
        shape, dtype, device: of the inputs, as a tensor has them.
    """

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, folder: Path, names: Sequence[str], crops: Crops, colours: Colours) -> None:
        self.folder, self.names, self.crops, self.colours = str(folder), names, crops, colours
        self.shape = torch.Size([len(names), 3, crops.size, crops.size])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """The inputs [n, 3, size, size] at a slice or at indices [n].

        Raises:
            HpoError: a file cannot be decoded.
        """
        indices = torch.arange(len(self))[index]
        pixels = read_images(self.request(indices), self.crops)
        if isinstance(pixels, BrokenImage):
            raise HpoError(f"{pixels.path} cannot be decoded ({pixels.reason}); replace it with an intact copy")
        return self.colours(pixels[0])

    def request(self, indices: Tensor, keys: Tensor | None = None, central: bool = True) -> Request:
        """The request for the files at indices [n], with keys [n, V] of random crops."""
        paths = [f"{self.folder}/{self.names[index]}" for index in indices.tolist()]
        return Request(paths, [[]] * len(paths) if keys is None else keys.tolist(), central)

    def digest(self) -> str:
        """A digest of the names of all files, in order."""
        total = hashlib.sha256()
        for name in self.names:
            total.update(name.encode("utf-8", "surrogatepass") + b"\0")  # a file's name need not be UTF-8
        return total.hexdigest()[:16]
