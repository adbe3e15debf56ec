"""The benchmark of image loading says what it measured; no test depends on how fast it is."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hpo.bench import images
from hpo.data import ImageFolder, load_source
from tests.bench.tables import check_table

CPU = torch.device("cpu")


def test_loaders_are_timed_in_turns(tmp_path: Path) -> None:
    images.make_images(tmp_path, 200)
    assert len(load_source(ImageFolder(tmp_path, train=".", test=0.01)).labels) == 198
    printed: list[Any] = []
    result = images.measure(tmp_path, 0, 8, 50, 0, 2, CPU, printed.append)
    assert result["rows"] == printed
    check_table(images, result, printed[-1])
    assert result["images"] == 196
    plain, one, two = result["rows"]
    assert plain["times_plain"] == 1
    assert one["model_images"] == one["images"] > 0
    assert two["model_images"] == 2 * two["images"] > 0
    assert two["times_plain"] == pytest.approx(sum(two["ratios"]) / 2)
