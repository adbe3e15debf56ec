"""ImageFolder: what it lists, how an image becomes an input, and what it refuses."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import image_folder, write_image
from PIL import Image

from hpo import Configuration, HpoError, ImageFolder, Study, UsageError
from hpo.data import identify, load_source
from hpo.data.image_files import ImageFiles
from hpo.data.image_reading import BrokenImage, decode
from hpo.study.definition import describe


def names(part: object) -> list[str]:
    assert isinstance(part, ImageFiles)
    return [Path(name).name for name in part.names]


def test_folders_of_classes_become_a_source(tmp_path: Path) -> None:
    image_folder(tmp_path, {"train": {"dog": 3, "cat": 2}, "val": {"cat": 1, "dog": 1}})
    write_image(tmp_path / "train/dog/more/Z.PNG", 1)  # in a folder of its own, as in Tiny ImageNet
    for stray in ("train/dog/README.txt", "train/dog/._dog_000.jpg", "train/list.txt"):
        (tmp_path / stray).write_text("no image")
    source = load_source(ImageFolder(tmp_path, size=24))
    assert names(source.inputs) == ["cat_000.jpg", "cat_001.jpg", "dog_000.jpg", "dog_001.jpg", "dog_002.jpg", "Z.PNG"]
    assert source.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert source.test_labels.tolist() == [0, 1]
    assert source.classes == 2
    assert source.inputs.shape == (6, 3, 24, 24)
    assert source.inputs[torch.tensor([5, 0])].shape == (2, 3, 24, 24)


def test_lists_say_which_image_is_of_which_part_and_class(tmp_path: Path) -> None:
    """As ImageNet's validation images are published: in one folder, with a list of their classes."""
    image_folder(tmp_path, {"images": {"cat": 3, "dog": 3}})
    for number in range(2):
        write_image(tmp_path / f"val/a b {number}.JPEG", number)
    (tmp_path / "train.txt").write_text("images/dog/dog_001.jpg\nimages/cat/cat_002.jpg\n\nimages/cat/cat_000.jpg\n")
    (tmp_path / "val.txt").write_text("a b 0.JPEG dog\na b 1.JPEG,cat\n")
    source = load_source(ImageFolder(tmp_path, size=24, train="train.txt", test="val.txt"))
    assert names(source.inputs) == ["cat_000.jpg", "cat_002.jpg", "dog_001.jpg"]
    assert names(source.test_inputs) == ["a b 1.JPEG", "a b 0.JPEG"]
    assert (source.labels.tolist(), source.test_labels.tolist()) == ([0, 0, 1], [0, 1])
    source.test_inputs[:2]  # they can be read


def test_names_of_files_and_classes_need_not_be_utf8(tmp_path: Path) -> None:
    image_folder(tmp_path, {"train": {"cat": 4, "dog": 4}, "val": {"cat": 1, "dog": 1}})
    latin = os.fsdecode(b"\xe9")
    (tmp_path / "train/cat/cat_000.jpg").rename(tmp_path / f"train/cat/caf{latin}.jpg")
    for part in ("train", "val"):
        (tmp_path / part / "cat").rename(tmp_path / part / f"chat{latin}")
    source = load_source(ImageFolder(tmp_path, size=24, subset=0.5))
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert source.inputs[:4].shape == (4, 3, 24, 24)
    whole = identify(load_source(ImageFolder(tmp_path, size=24)))
    (tmp_path / f"train/chat{latin}/caf{latin}.jpg").rename(tmp_path / f"train/chat{latin}/caf{latin * 2}.jpg")
    assert identify(load_source(ImageFolder(tmp_path, size=24)))["files"] != whole["files"]


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As editors on Windows write it."""
    image_folder(tmp_path)
    (tmp_path / "few.txt").write_text("train/cat/cat_002.jpg\ntrain/dog/dog_001.jpg\n", encoding="utf-8-sig")
    source = load_source(ImageFolder(tmp_path, size=24, train="few.txt"))
    assert source.inputs[:2].shape == (2, 3, 24, 24)


def test_a_fraction_is_the_test_set_and_a_subset_keeps_a_share_of_each_class(tmp_path: Path) -> None:
    image_folder(tmp_path, {".": {"cat": 20, "dog": 10}})
    whole = load_source(ImageFolder(tmp_path, size=24, train=".", test=0.2))
    assert (len(whole.labels), len(whole.test_labels)) == (24, 6)
    assert not set(names(whole.inputs)) & set(names(whole.test_inputs))
    quarter = ImageFolder(tmp_path, size=24, train=".", test=0.2, subset=0.25)
    part = load_source(quarter)
    assert names(part.test_inputs) == names(whole.test_inputs)
    assert set(names(part.inputs)) < set(names(whole.inputs))
    for label in (0, 1):
        assert int((part.labels == label).sum()) == max(1, round(0.25 * int((whole.labels == label).sum())))
    assert names(part.inputs) == names(
        load_source(ImageFolder(tmp_path, size=24, train=".", test=0.2, subset=0.25)).inputs
    )


def test_a_relative_folder_is_also_searched_in_hpo_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(tmp_path / "imagenet")
    monkeypatch.setenv("HPO_DATA", str(tmp_path))
    assert len(load_source(ImageFolder("imagenet", size=24)).labels) == 32


@pytest.mark.parametrize(
    ("damage", "settings", "words"),
    [
        (lambda root: (root / "train/empty").mkdir(), {}, "train/empty has no JPEG or PNG"),
        (lambda root: write_image(root / "val/owl/x.jpg", 0), {}, r"val/owl/x.jpg has the class 'owl', of which .* no"),
        (lambda _: None, {"train": "training"}, "has no folder or list 'training'"),
        (lambda root: (root / "flat").mkdir(), {"test": "flat"}, "flat has no folders of classes"),
        (lambda root: (root / "val.txt").write_text("x.txt dog"), {"test": "val.txt"}, "line 1 of .*val.txt is 'x.txt"),
        (lambda root: (root / "val.txt").write_text("a.jpg"), {"test": "val.txt"}, "line 1 of .*val.txt is 'a.jpg'"),
        (lambda root: (root / "val.txt").write_text("\n"), {"test": "val.txt"}, "val.txt lists no images"),
        (
            lambda root: (root / "val.txt").write_text("train/cat/cat_001.jpg"),
            {"test": "val.txt"},
            "train/cat/cat_001.jpg is both a training and a test image",
        ),
    ],
)
def test_a_wrong_layout_is_one_sentence_that_names_the_file(
    damage: object, settings: dict[str, object], words: str, tmp_path: Path
) -> None:
    image_folder(tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(UsageError, match=words) as caught:
        load_source(ImageFolder(tmp_path, size=24, **settings))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 0},
        {"resize": 20},
        {"subset": 0},
        {"scale": (0.5, 1.2)},
        {"ratio": (0, 1)},
        {"flip": 2},
        {"rand_augment": -1},
        {"magnitude": 31},
        {"cutout": 0.5},
        {"cutout_probability": 2},
        {"means": (0.5,)},
        {"deviations": (0, 1, 1)},
        {"test": 1.5},
        {"processes": -1},
    ],
)
def test_wrong_fields_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"ImageFolder: {next(iter(settings))}"):
        ImageFolder("x", **{"size": 24, **settings})  # type: ignore[arg-type]


def test_the_definition_holds_the_name_and_not_the_place_or_the_processes(tmp_path: Path) -> None:
    def described(data: ImageFolder) -> dict[str, object]:
        configurations = (Configuration("SGD", optimizer="sgd"), Configuration("AdamW"))
        return describe(Study(data=data, model=torch.nn.Identity, configurations=configurations, baseline="SGD"))

    one = described(ImageFolder(tmp_path / "a" / "photos", processes=3))
    assert one == described(ImageFolder("photos")) == json.loads(json.dumps(one))
    assert one != described(ImageFolder("other"))
    assert described(ImageFolder("photos", augmented=False)) == described(
        ImageFolder("photos", augmented=False, flip=0.1, rand_augment=2, cutout=8)
    )
    assert described(ImageFolder("photos", rand_augment=2)) != described(ImageFolder("photos", rand_augment=3))
    assert dataclasses.replace(ImageFolder("photos"), size=48).name == "photos"


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "CMYK", "I;16"])
def test_images_of_every_mode_are_read_in_three_colours(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.new(mode, (50, 30)).save(path)
    image = decode(path)
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGB", (50, 30))


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_grey_values_of_16_bits_become_their_first_8_bits(kind: str, tmp_path: Path) -> None:
    """As Pillow does for colours of 16 bits."""
    pixels = np.arange(50 * 30, dtype=kind).reshape(30, 50) * np.array(43, kind)  # up to 64,457
    Image.fromarray(pixels).save(tmp_path / "x.png", format="PNG" if kind == "<u2" else "TIFF")
    image = np.asarray(decode(tmp_path / "x.png"))
    assert np.array_equal(image, np.repeat((pixels // 256)[..., None], 3, 2))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_an_image_of_32_bits_is_refused(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (50, 30)).save(tmp_path / "x.png", format="TIFF")
    assert isinstance(decode(tmp_path / "x.png"), BrokenImage)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "truncated"),
        (lambda path: path.write_bytes(b""), "no image"),
        (lambda path: path.write_text("<html>404</html>"), "no image"),
        (lambda path: path.unlink(), "No such file"),
    ],
)
def test_a_broken_image_is_one_sentence_with_its_name(damage: object, words: str, tmp_path: Path) -> None:
    image_folder(tmp_path)
    source = load_source(ImageFolder(tmp_path, size=24))
    damage(tmp_path / "train/dog/dog_001.jpg")  # type: ignore[operator]
    assert isinstance(decode(tmp_path / "train/dog/dog_001.jpg"), BrokenImage)
    with pytest.raises(HpoError, match=f"dog_001.jpg cannot be decoded .*{words}.*; replace it") as caught:
        source.inputs[torch.arange(32)]
    assert "\n" not in str(caught.value)


def test_workers_with_other_images_are_told_apart(tmp_path: Path) -> None:
    """By the names of all images, and by the pixels of some."""
    image_folder(tmp_path)
    before = identify(load_source(ImageFolder(tmp_path, size=24)))
    (tmp_path / "val/dog/dog_003.jpg").rename(tmp_path / "val/dog/dog_004.jpg")
    renamed = identify(load_source(ImageFolder(tmp_path, size=24)))
    assert before.pop("files") != renamed.pop("files")
    assert before == renamed
    write_image(tmp_path / "train/cat/cat_000.jpg", 99)
    assert identify(load_source(ImageFolder(tmp_path, size=24)))["inputs"] != before["inputs"]
