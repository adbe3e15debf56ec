"""CIFAR-10 and CIFAR-100 from small archives in the published format: reading, and what is refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cifar_archives as archives
import numpy as np
import pytest
import torch

from hpo import Configuration, Study
from hpo.data import DATASETS, Cifar10, Cifar100, Dataset, Digits, Mnist1d
from hpo.data.archives import ARCHIVES
from hpo.data.published_images import PublishedImages
from hpo.errors import HpoError, UsageError
from hpo.study.definition import describe, digest

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 20
KINDS: dict[str, tuple[type[Cifar10] | type[Cifar100], int]] = {"cifar-10": (Cifar10, 5), "cifar-100": (Cifar100, 1)}


@pytest.mark.parametrize("name", KINDS)
def test_pixels_and_labels_follow_the_format(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, files = KINDS[name]
    archives.publish(monkeypatch, tmp_path, name, COUNT)
    loaded = kind(folder=tmp_path).load()
    assert loaded.classes == (10 if name == "cifar-10" else 100)
    assert (loaded.inputs.dtype, loaded.labels.dtype) == (torch.float32, torch.int64)
    records = [archives.records(name, COUNT, seed) for seed in range(files + 1)]
    for inputs, labels, parts in (
        (loaded.inputs, loaded.labels, records[:-1]),
        (loaded.test_inputs, loaded.test_labels, records[-1:]),
    ):
        pixels = np.concatenate([images for images, _, _ in parts])
        assert inputs.shape == (COUNT * len(parts), 3, 32, 32)
        assert labels.tolist() == [int(label) for _, of_part, _ in parts for label in of_part]
        for channel in range(3):
            expected = (pixels[:, channel] / 255 - kind.means[channel]) / kind.pixel_deviations[channel]
            np.testing.assert_allclose(inputs[:, channel].numpy(), expected, rtol=0, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}-binary.tar.gz"]  # nothing is unpacked


def test_the_archive_is_in_the_named_folder_else_hpo_data_else_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {name: tmp_path / name for name in ("named", "HPO_DATA", "HPO_CACHE")}
    for number, (name, folder) in enumerate(folders.items()):
        content = archives.contents("cifar-100", 2 + number)
        archive = archives.write_archive(folder / "cifar-100-binary.tar.gz", content, "cifar-100-binary")
        archives.accept(monkeypatch, "cifar-100", archive)
        monkeypatch.setenv("HPO_CACHE", str(folders["HPO_CACHE"]))
        monkeypatch.delenv("HPO_DATA", raising=False)
        if name == "HPO_DATA":
            monkeypatch.setenv("HPO_DATA", str(folder))
        dataset = Cifar100(folder=str(folder)) if name == "named" else Cifar100()
        assert len(dataset.load().labels) == 2 + number
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(Cifar100(folder="~/HPO_CACHE").load().labels) == 4


AUTHORS = (0.2023, 0.1994, 0.2010)  # in the code of GAM and GVR


@pytest.mark.parametrize("deviations", ["images", AUTHORS])
def test_the_channels_are_divided_by_the_chosen_deviations(
    deviations: Literal["images"] | tuple[float, float, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives.publish(monkeypatch, tmp_path, "cifar-10", COUNT)
    chosen = Cifar10(folder=tmp_path, deviations=deviations, cutout=0)
    usual, other = Cifar10(folder=tmp_path).load(), chosen.load()
    factors = torch.tensor(Cifar10.pixel_deviations) / torch.tensor(AUTHORS)
    for before, after in ((usual.inputs, other.inputs), (usual.test_inputs, other.test_inputs)):
        torch.testing.assert_close(after, before * factors[:, None, None], rtol=1e-5, atol=1e-6)
    black = torch.tensor([-mean / sd for mean, sd in zip(Cifar10.means, AUTHORS, strict=True)])
    cropped = chosen.augment(torch.full((40, 3, 32, 32), 7.0), torch.arange(40))
    around = cropped != 7
    assert torch.equal(cropped[around], black[None, :, None, None].expand_as(cropped)[around])


@pytest.mark.parametrize("given", ["other", (0.2, 0.2), (0.2, 0.2, 0.0), 0.2])
def test_wrong_deviations_are_refused(given: Any) -> None:
    with pytest.raises(UsageError, match=r"^Cifar100: deviations is .*; give 'pixels', 'images' or three numbers"):
        Cifar100(deviations=given)


def cut_off(content: bytes) -> bytes:
    return content[: len(content) // 2]


def one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut_off, one_bit, lambda _: b"", lambda _: b"<html>404</html>"])
def test_a_damaged_archive_is_refused_and_kept(
    damage: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archives.publish(monkeypatch, tmp_path, "cifar-10", 3)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(HpoError) as caught:
        Cifar10(folder=tmp_path).load()
    message = str(caught.value)
    assert str(path) in message and "MD5" in message and "delete it" in message and "\n" not in message
    assert path.read_bytes() == damaged
    assert list(tmp_path.iterdir()) == [path]


def with_file(content: bytes | None) -> dict[str, bytes]:
    """The archive's files, one of them with other content or missing."""
    files: dict[str, bytes | None] = {**archives.contents("cifar-10", 2), "data_batch_3.bin": content}
    return {name: content for name, content in files.items() if content is not None}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "data_batch_3.bin"),
        (b"\1" * 3072, "3072 bytes are not a multiple of 3073"),
        (b"", "0 bytes are not a multiple of 3073"),
        (b"\12" + b"\0" * 3072, "a label is 10"),
    ],
)
def test_another_format_is_refused_even_with_the_right_checksum(
    content: bytes | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    archives.accept(monkeypatch, "cifar-10", archives.write_archive(path, with_file(content), "cifar-10-batches-bin"))
    with pytest.raises(HpoError, match=words) as caught:
        Cifar10(folder=tmp_path).load()
    assert "\n" not in str(caught.value)
    assert path.exists()


@pytest.mark.parametrize("damage", [cut_off, lambda _: b"no archive at all"])
def test_an_archive_that_cannot_be_unpacked_is_refused_even_with_the_right_checksum(
    damage: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archives.publish(monkeypatch, tmp_path, "cifar-10", 3)
    path.write_bytes(damage(path.read_bytes()))
    archives.accept(monkeypatch, "cifar-10", path.read_bytes())
    with pytest.raises(HpoError, match=r"cannot be unpacked|does not contain"):
        Cifar10(folder=tmp_path).load()
    assert path.exists()


def test_the_published_checksums() -> None:
    """As on the authors' page; a wrong digit here would refuse every download."""
    published = {name: (archive.name, archive.md5) for name, archive in ARCHIVES.items() if name in KINDS}
    assert published == {
        "cifar-10": ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
        "cifar-100": ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
    }
    assert (DATASETS["Cifar10"], DATASETS["Cifar100"]) == (Cifar10, Cifar100)


# The other data sets are given their samples.
PUBLISHED = [kind for kind in DATASETS.values() if issubclass(kind, PublishedImages | Mnist1d | Digits)]


@pytest.mark.parametrize("kind", PUBLISHED)
def test_definitions_are_json_without_folders(kind: type[Dataset], tmp_path: Path) -> None:
    def study(data: Dataset) -> Study:
        configurations = (Configuration("SGD", optimizer="sgd"), Configuration("AdamW"))
        return Study(data=data, model=torch.nn.Identity, configurations=configurations, baseline="SGD")

    described = describe(study(kind()))
    assert json.loads(json.dumps(described)) == described
    assert described["data"]["kind"] == kind.__name__
    assert "folder" not in described["data"]
    if issubclass(kind, PublishedImages):
        elsewhere = dataclasses.replace(kind(), folder=tmp_path)
        assert digest(describe(study(elsewhere))) == digest(described)
    if kind in (Cifar10, Cifar100):
        strengths = {key: described["data"][key] for key in ("padding", "flip", "cutout", "cutout_probability")}
        assert strengths == {"padding": 4, "flip": 0.5, "cutout": 16, "cutout_probability": 0.5}
