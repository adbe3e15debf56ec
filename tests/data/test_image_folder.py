"""ImageFolder: what it lists, how an image becomes an input, and what it refuses."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import image_folder, write_image
from PIL import Image

from hpo import Configuration, HpoError, ImageFolder, Study, UsageError
from hpo.data import identify, load_source
from hpo.data.image_files import Colours, ImageFiles
from hpo.data.image_reading import DRAWS, BrokenImage, Crops, Request, decode, random_box, read_images
from hpo.random import uniform
from hpo.study.definition import describe

CROPS = Crops(24, 28, (0.08, 1.0), (3 / 4, 4 / 3), 0.5)


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
        ImageFolder("photos", augmented=False, flip=0.1)
    )
    assert dataclasses.replace(ImageFolder("photos"), size=48).name == "photos"


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "CMYK", "I;16"])
def test_images_of_every_mode_are_read_in_three_colours(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.new(mode, (50, 30)).save(path)
    image = decode(path)
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGB", (50, 30))


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


def test_a_crop_is_that_of_a_plain_loop_with_pillow(tmp_path: Path) -> None:
    """Bit for bit, with draws from the key one by one; the central crop is the last view."""
    paths = [str(write_image(tmp_path / f"{n}.jpg", n, (40 + 30 * n, 90 - 20 * n))) for n in range(3)]
    keys = [[11, 12], [2**32 - 1, 0], [5, 5]]
    pixels = read_images(Request(paths, keys, central=True), CROPS)
    assert isinstance(pixels, torch.Tensor)
    assert pixels.shape == (3, 3, 3, 24, 24)
    for number, path in enumerate(paths):
        image = Image.open(path).convert("RGB")
        for view, key in enumerate(keys[number]):
            assert torch.equal(pixels[view, number], to_tensor(plain_random_crop(image, key)))
        assert torch.equal(pixels[2, number], to_tensor(plain_central_crop(image)))
    assert torch.equal(pixels[0, 2], pixels[1, 2])
    files = ImageFiles(tmp_path, ["0.jpg", "1.jpg", "2.jpg"], CROPS, Colours((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    means, deviations = (torch.tensor(v).view(3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    assert torch.equal(files[:3], (pixels[2].float() / 255 - means) / deviations)


def to_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def plain_central_crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    size = (28, int(28 * height / width)) if width <= height else (int(28 * width / height), 28)
    left, top = round((size[0] - 24) / 2.0), round((size[1] - 24) / 2.0)
    return image.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + 24, top + 24))


def plain_random_crop(image: Image.Image, key: int) -> Image.Image:
    def draw(number: int) -> float:
        return float(uniform(torch.tensor(key), number))

    width, height = image.size
    for attempt in range(10):
        area = width * height * (0.08 + 0.92 * draw(4 * attempt))
        ratio = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * draw(4 * attempt + 1))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            left, top = int(draw(4 * attempt + 2) * (width - w + 1)), int(draw(4 * attempt + 3) * (height - h + 1))
            break
    else:
        raise AssertionError("these keys give a box that fits")
    crop = image.crop((left, top, left + w, top + h)).resize((24, 24), Image.Resampling.BILINEAR)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw(40) < 0.5 else crop


def test_random_boxes_have_the_published_distribution() -> None:
    """Area uniform between 8% and 100%, ratio log-uniform between 3/4 and 4/3, positions uniform (square images)."""
    draws = uniform(torch.arange(4000)[:, None], torch.arange(DRAWS)).tolist()
    boxes = torch.tensor([random_box(1000, 1000, CROPS, row) for row in draws], dtype=torch.float64)
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert ((boxes >= 0) & (boxes <= 1000)).all()
    shares, ratios = widths * heights / 1e6, widths / heights
    small = shares < 0.7  # such boxes always fit, so that none was drawn again
    assert shares.min() > 0.079
    torch.testing.assert_close(shares[small].mean(), torch.tensor(0.39, dtype=torch.float64), atol=0.012, rtol=0)
    assert 0.74 < ratios.min() < 0.76
    assert 1.32 < ratios.max() < 1.35
    assert abs(ratios[small].log().mean()) < 0.012
    torch.testing.assert_close(
        (boxes[small, 0] / (1000 - widths[small])).mean(), torch.tensor(0.5, dtype=torch.float64), atol=0.02, rtol=0
    )


def test_an_image_in_which_no_box_fits_is_cropped_in_its_middle() -> None:
    assert random_box(1000, 10, CROPS, [0.9] * DRAWS) == (493, 0, 506, 10)
    assert random_box(10, 1000, CROPS, [0.9] * DRAWS) == (0, 493, 10, 506)
    assert random_box(1000, 1, CROPS, [0.9] * DRAWS) == (499, 0, 500, 1)
