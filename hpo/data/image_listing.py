"""Which images a folder has, by class: from folders with the classes' names, or from a list in a text file."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from hpo.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png")
_LINE = re.compile(r"(.+?\.(?:jpe?g|png))(?:[\s,]+(\S.*))?", re.IGNORECASE)  # IMAGE or IMAGE CLASS

Images = list[tuple[str, str]]  # (name relative to a folder, class), sorted by class and name


def list_images(root: Path, part: str) -> tuple[Path, Images]:
    """The images of a part of a data set, and the folder that their names are relative to.

    Args:
        part: a folder in `root` with a folder of images for each class; or a text file in it with a line for each
            image: its name and its class, which is by default the name of its folder. Names are relative to `root`, or
            to the folder in it that is called like the list, without its suffix.

    Raises:
        UsageError: there is no such part, a class has no images, or a line cannot be read.
    """
    place = root / part
    if place.is_dir():
        return place, _from_folders(place)
    if place.is_file():
        return _from_list(root, place)
    raise UsageError(
        f"ImageFolder: {root} has no folder or list {part!r}; name the parts, as in train='train', test='val', or give "
        "train='.' and test=0.2 where it has the folders of the classes itself"
    )


def _from_folders(place: Path) -> Images:
    images: Images = []
    with os.scandir(place) as entries:
        classes = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UsageError(
            f"ImageFolder: {place} has no folders of classes; put the images of each class into a folder with its "
            "name, or give a text file with a line 'IMAGE CLASS' for each image"
        )
    for name in classes:
        names = sorted(_images_below(place, name))
        if not names:
            raise UsageError(f"ImageFolder: {place / name} has no JPEG or PNG images; add some, or delete the folder")
        images += [(each, name) for each in names]
    return images


def _images_below(place: Path, name: str) -> Iterator[str]:
    for folder, _, files in os.walk(place / name, followlinks=True):
        prefix = os.path.relpath(folder, place)
        for file in files:
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                yield f"{prefix}/{file}"


def _from_list(root: Path, file: Path) -> tuple[Path, Images]:
    images: Images = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"ImageFolder: {file} cannot be read ({error}); give a text file in UTF-8") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        name, label = match.groups() if match else ("", None)
        label = label or Path(name).parent.name
        if not label:
            raise UsageError(
                f"ImageFolder: line {number} of {file} is {line.strip()!r}; write 'IMAGE CLASS', or 'CLASS/IMAGE', "
                "with images that end in .jpg, .jpeg or .png"
            )
        images.append((name, label))
    if not images:
        raise UsageError(f"ImageFolder: {file} lists no images; write a line 'IMAGE CLASS' for each")
    images.sort(key=lambda image: image[::-1])
    beside = root / file.stem
    return beside if (beside / images[0][0]).exists() else root, images
