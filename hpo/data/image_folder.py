"""ImageFolder: images in folders by class, as many as fit on a disk."""

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpo.data.augmented_images import AugmentedImages
from hpo.data.cache import data_folder
from hpo.data.held_out import check_share, split_test
from hpo.data.image_changes import Changes
from hpo.data.image_files import Colours, ImageFiles
from hpo.data.image_listing import Images, list_images
from hpo.data.image_reading import Crops
from hpo.data.source import Source, augmentation
from hpo.errors import HpoError, UsageError, is_whole
from hpo.random import stream


@dataclass(frozen=True)
class ImageFolder(AugmentedImages):
    """JPEG and PNG images in folders by class, such as ImageNet: decoded while training, in several processes.

    Training sees random crops (RandomResizedCrop) and flips, then RandAugment and Cutout where they are asked for; all
    follow from the seed, the epoch and the image. Evaluation sees the central crop. Models of the same seed share the
    decoded images. Workers compare the names and classes of all images, and the pixels of 64 of each part.

    Attributes:
        path: the folder with the parts; a relative one is in the working directory, or in `HPO_DATA`. It is not part of
            a study's definition.
        size: side in pixels of the networks' inputs, [3, size, size].
        train: the images that training and validation are drawn from: the name of a folder in `path` that has a folder
            of images for each class, or of a text file in it with a line "IMAGE CLASS" for each image.
        test: the same of the test set; or a fraction of the training images that is drawn once, the same for all seeds.
        subset: the share of each class's training images that is used, drawn once; the test set stays complete.
        augmented: whether training sees augmented images; else it sees the central crop.
        scale, ratio: the range of a random crop's share of the area, and of its width divided by its height.
        resize: the shorter side in pixels to which an image is brought before its central crop; by default size · 8/7.
        means, deviations: of the channels, with pixels from 0 to 1; by default those of ImageNet.
        name: of the data in definitions and reports; by default that of the folder.
        processes: that decode, for each worker; by default one per core but one, at most 8. 0: the worker decodes.
    """

    path: str | os.PathLike[str] = field(metadata={"described": False})
    size: int = 224
    _: KW_ONLY
    train: str = "train"
    test: Any = "val"
    subset: float = 1.0
    augmented: bool = True
    scale: tuple[float, float] = augmentation((0.08, 1.0))
    ratio: tuple[float, float] = augmentation((3 / 4, 4 / 3))
    flip: float = augmentation(0.5)
    resize: int | None = None
    means: Sequence[float] = (0.485, 0.456, 0.406)
    deviations: Sequence[float] = (0.229, 0.224, 0.225)
    name: str = ""
    processes: int | None = field(default=None, metadata={"described": False})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("size", is_whole(self.size, 1), "a whole number of pixels")
        object.__setattr__(self, "resize", round(self.size * 8 / 7) if self.resize is None else self.resize)
        self._require("resize", is_whole(self.resize, self.size), f"a whole number of at least size, {self.size}")
        for name in ("train", "test"):
            self._require(name, bool(getattr(self, name)), "the name of a folder or of a text file")
        if not isinstance(self.test, str):
            check_share("ImageFolder", self.test, "the name of a folder")
        self._require("subset", 0 < self.subset <= 1, "a fraction above 0 and at most 1")
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            self._require(name, 0 < low <= high, "the two ends of a range above 0")
        self._require("scale", self.scale[1] <= 1, "a range that ends at most at 1, the whole image")
        for name in ("means", "deviations"):
            self._require(name, len(getattr(self, name)) == 3, "three numbers, for red, green and blue")
        self._require("deviations", min(self.deviations) > 0, "three numbers above 0")
        processes = self.processes is None or is_whole(self.processes, 0)
        self._require("processes", processes, "a whole number, 0 for none")
        object.__setattr__(self, "name", self.name or Path(self.path).name)

    @property
    def augments(self) -> bool:
        return self.augmented

    def load(self) -> Source:
        """Lists the images; they are read while training.

        Raises:
            UsageError: a part is missing or empty, a class has no images or only test images, or an image is in both
                parts. HpoError: Pillow is not installed.
        """
        if find_spec("PIL") is None:
            raise HpoError("ImageFolder needs Pillow: pip install 'hpo-studies[images]'")
        root = self._root()
        folder, images = list_images(root, self.train)
        if isinstance(self.test, str):
            test_folder, test_images = list_images(root, self.test)
            _check_disjoint({folder / name for name, _ in images}, test_folder, test_images)
        else:
            kept, chosen = (indices.tolist() for indices in split_test(len(images), self.test))
            test_folder, test_images = folder, [images[index] for index in chosen]
            images = [images[index] for index in kept]
        classes = _number_classes(images, test_folder, test_images)
        images = self._subset(images)
        return Source(
            self._files(folder, images),
            _labels(images, classes),
            self._files(test_folder, test_images),
            _labels(test_images, classes),
            len(classes),
        )

    def _root(self) -> Path:
        path = Path(self.path).expanduser()
        root = path if path.is_absolute() or path.is_dir() else data_folder(None) / path
        if root.is_dir():
            return root
        raise UsageError(f"ImageFolder: there is no folder {path}, nor {root}; give the path of the folder of images")

    def _subset(self, images: Images) -> Images:
        """A share of each class's images, at least one."""
        if self.subset == 1:
            return images
        by_class: dict[str, Images] = {}
        for image in images:
            by_class.setdefault(image[1], []).append(image)
        chosen: Images = []
        for name, of_class in by_class.items():
            order = torch.randperm(len(of_class), generator=stream(0, "data", "subset", name))
            kept = order[: max(1, round(self.subset * len(of_class)))].sort().values
            chosen += [of_class[index] for index in kept.tolist()]
        return chosen

    def _changes(self) -> Changes | None:
        if not (self.uses_rand_augment or self.uses_cutout):
            return None
        red, green, blue = (round(255 * mean) for mean in self.means)
        return Changes(self.rand_augment, self.magnitude, self.cutout, self.cutout_probability, (red, green, blue))

    def _files(self, folder: Path, images: Images) -> ImageFiles:
        assert self.resize is not None
        scale, ratio = tuple(self.scale), tuple(self.ratio)
        crops = Crops(self.size, self.resize, scale, ratio, self.flip, self._changes())  # type: ignore[arg-type]
        return ImageFiles(folder, [name for name, _ in images], crops, Colours(self.means, self.deviations))


def _number_classes(images: Images, test_folder: Path, test_images: Images) -> dict[str, int]:
    numbers = {name: number for number, name in enumerate(sorted({name for _, name in images}))}
    for file, name in test_images:
        if name not in numbers:
            raise UsageError(
                f"ImageFolder: {test_folder / file} has the class {name!r}, of which there is no training image; "
                "training needs every class"
            )
    return numbers


def _check_disjoint(images: set[Path], test_folder: Path, test_images: Images) -> None:
    for name, _ in test_images:
        if test_folder / name in images:
            raise UsageError(
                f"ImageFolder: {test_folder / name} is both a training and a test image; name parts without the same "
                "images"
            )


def _labels(images: Images, classes: dict[str, int]) -> Tensor:
    return torch.tensor([classes[name] for _, name in images])
