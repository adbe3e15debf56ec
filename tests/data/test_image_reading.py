"""Reading images: crops, flips, RandAugment and Cutout equal to plain loops with Pillow, with published frequencies."""

import math
from pathlib import Path

import numpy as np
import pytest
import references_images as references
import torch
from image_folders import write_image
from PIL import Image

from hpo.data.image_changes import Changes, change_image, draw_changes
from hpo.data.image_files import Colours, ImageFiles
from hpo.data.image_reading import DRAWS, Crops, Request, random_box, read_images
from hpo.data.rand_augment import rand_augment
from hpo.random import uniform

CROPS = Crops(24, 28, (0.08, 1.0), (3 / 4, 4 / 3), 0.5)


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


@pytest.mark.parametrize("magnitude", [0, 9, 30])
@pytest.mark.parametrize(("operations", "cutout", "probability"), [(2, 0, 0.0), (0, 9, 0.5), (3, 10, 1.0)])
def test_changes_are_those_of_a_plain_loop_with_pillow(
    operations: int, magnitude: int, cutout: int, probability: float, tmp_path: Path
) -> None:
    """Bit for bit: the crop of the same key, then its operations of RandAugment, then the square of its Cutout."""
    paths = [str(write_image(tmp_path / f"{n}.jpg", n, (40 + 30 * n, 90 - 20 * n))) for n in range(3)]
    keys = torch.arange(36).view(3, 12)
    changes = Changes(operations, magnitude, cutout, probability, (124, 116, 104))
    plain = read_images(Request(paths, keys.tolist(), central=True), CROPS)
    changed = read_images(Request(paths, keys.tolist(), central=True), CROPS._replace(changes=changes))
    assert isinstance(plain, torch.Tensor)
    assert isinstance(changed, torch.Tensor)
    assert torch.equal(changed[-1], plain[-1]), "evaluation sees no changes"
    for number, row in enumerate(keys.tolist()):
        for view, key in enumerate(row):
            expected = references.rand_augment(plain[view, number].numpy(), key, operations, magnitude)
            assert np.array_equal(changed[view, number].numpy(), plain_cutout(expected, key, cutout, probability))
    if cutout:
        share = (changed[:-1] == torch.tensor([124, 116, 104]).view(3, 1, 1)).all(2).flatten(2).any(2).float().mean()
        assert 0 < share < 1 if probability == 0.5 else share == 1


def plain_cutout(pixels: np.ndarray, key: int, size: int, probability: float) -> np.ndarray:
    """The mean colour at every pixel within the square around a pixel of the image."""
    changed = pixels.copy()
    top, left = (references.integer(key, draw, 24) - size // 2 for draw in (65, 66))
    for row in range(24):
        for column in range(24):
            inside = 0 <= row - top < size and 0 <= column - left < size
            if inside and references.uniform(key, 64) < probability:
                changed[:, row, column] = (124, 116, 104)
    return changed


def test_operations_by_pillow_are_those_of_a_batch_on_the_device() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 3, 24, 31), dtype=torch.uint8, generator=generator)
    keys = torch.arange(40)
    expected = rand_augment(pixels.long(), keys, 3, 21)
    drawn = draw_changes(keys, changes := Changes(3, 21, 0, 0.0, (0, 0, 0)), 24)
    for image, row, batched in zip(pixels, drawn.tolist(), expected, strict=True):
        changed = change_image(Image.fromarray(image.permute(1, 2, 0).numpy()), changes, row)
        assert torch.equal(to_tensor(changed).long(), batched)


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
