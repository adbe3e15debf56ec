"""MNIST, Fashion-MNIST and SVHN from small files in the published formats: reading, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import published_files as published
import pytest
import torch

from hpo.data import DATASETS, FashionMnist, Mnist, Svhn
from hpo.data.archives import ARCHIVES
from hpo.errors import HpoError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", [Mnist, FashionMnist])
def test_images_and_labels_follow_the_idx_format(
    kind: type[Mnist], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = published.publish_mnist(monkeypatch, tmp_path, kind.archives)
    loaded = kind(folder=tmp_path).load()
    assert (loaded.classes, loaded.inputs.dtype, loaded.labels.dtype) == (10, torch.float32, torch.int64)
    for inputs, labels, (images, classes) in (
        (loaded.inputs, loaded.labels, parts["train"]),
        (loaded.test_inputs, loaded.test_labels, parts["test"]),
    ):
        expected = (images / 255 - kind.mean) / kind.deviation
        np.testing.assert_allclose(inputs.numpy(), expected[:, None], rtol=0, atol=1e-5)
        assert labels.tolist() == classes.tolist()


def test_both_sets_lie_side_by_side_as_torchvision_stores_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their files have the same names; the checksum finds a file of the other set."""
    for kind in (Mnist, FashionMnist):
        published.publish_mnist(monkeypatch, tmp_path / kind.subfolder, kind.archives)
    monkeypatch.setenv("HPO_DATA", str(tmp_path))
    first, second = Mnist().load(), FashionMnist(folder=tmp_path).load()
    assert not torch.equal(first.labels, second.labels)
    with pytest.raises(HpoError, match=r"MNIST/raw/train-images-idx3-ubyte\.gz is damaged or not the published file"):
        FashionMnist(folder=tmp_path / Mnist.subfolder).load()


def test_a_missing_file_would_be_stored_in_its_subfolder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.publish_mnist(monkeypatch, tmp_path / "published")  # nobody listens at the URLs
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(HpoError, match=r"MNIST/raw/train-images-idx3-ubyte\.gz is missing and could not be downloaded"):
        Mnist(folder=tmp_path / "empty").load()


IMAGES = np.zeros((60, 28, 28))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (published.idx(IMAGES)[:-9], "cannot be unpacked"),
        (b"no archive", "cannot be unpacked"),
        (gzip.compress(gzip.decompress(published.idx(IMAGES))[:-1]), "not an IDX file of 3 dimensions"),
        (gzip.compress(b"\0\0\x08\3"), "not an IDX file of 3 dimensions"),
        (published.idx(np.zeros((60, 28))), "not an IDX file of 3 dimensions"),
        (published.idx(np.zeros((0, 28, 28))), "not an IDX file of 3 dimensions"),
    ],
    ids=["cut off", "no archive", "a byte less", "no sizes", "two dimensions", "no images"],
)
def test_another_format_is_refused_even_with_the_right_checksum(
    content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.publish_mnist(monkeypatch, tmp_path)
    path = published.put(monkeypatch, tmp_path, "mnist/train-images", content)
    with pytest.raises(HpoError, match=words) as caught:
        Mnist(folder=tmp_path).load()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.exists()


@pytest.mark.parametrize("extra", [False, True])
def test_svhn_is_read_from_its_mat_files(extra: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = published.publish_svhn(monkeypatch, tmp_path)
    if not extra:
        (tmp_path / "extra_32x32.mat").unlink()
    dataset = Svhn(folder=tmp_path, extra=extra)
    loaded = dataset.load()
    means, deviations = dataset.standardisation
    names = ["train", "extra"] if extra else ["train"]
    for inputs, labels, chosen in (
        (loaded.inputs, loaded.labels, names),
        (loaded.test_inputs, loaded.test_labels, ["test"]),
    ):
        images = np.concatenate([parts[name][0] for name in chosen], 3)
        digits = np.concatenate([parts[name][1][:, 0] for name in chosen])
        assert labels.tolist() == [digit if digit < 10 else 0 for digit in digits]
        assert inputs.is_contiguous() and inputs.shape == (len(digits), 3, 32, 32)
        for sample in range(len(digits)):
            for channel in range(3):
                expected = (images[:, :, channel, sample] / 255 - means[channel]) / deviations[channel]
                np.testing.assert_allclose(inputs[sample, channel].numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": np.zeros((32, 32, 3, 4), np.uint8)}, "'y'"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((5, 1))}, "shape"),
        ({"X": np.zeros((32, 32, 3, 4)), "y": np.ones((4, 1))}, "shape"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.full((4, 1), 11)}, "labels are 11 to 11"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.zeros((4, 1))}, "labels are 0 to 0"),
        (None, "not in the published format"),
    ],
)
def test_another_mat_file_is_refused_even_with_the_right_checksum(
    arrays: dict[str, np.ndarray] | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.publish_svhn(monkeypatch, tmp_path)
    content = b"no matrix" * 100 if arrays is None else published.mat(tmp_path, arrays)
    path = published.put(monkeypatch, tmp_path, "svhn/test", content)
    with pytest.raises(HpoError, match=words) as caught:
        Svhn(folder=tmp_path).load()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_published_checksums() -> None:
    """As torchvision 0.29 has them; a wrong digit here would refuse every download."""
    own = {
        key: archive.md5 for key, archive in ARCHIVES.items() if key.partition("/")[0] in ("mnist", "fashion", "svhn")
    }
    assert own == {
        "mnist/train-images": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "mnist/train-labels": "d53e105ee54ea40749a09fcbcd1e9432",
        "mnist/test-images": "9fb629c4189551a2d022fa330f9573f3",
        "mnist/test-labels": "ec29112dd5afa0611ce80d1b7f02629c",
        "fashion/train-images": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "fashion/train-labels": "25c81989df183df01b3e8a0aad5dffbe",
        "fashion/test-images": "bef4ecab320f06d8554ea6380940ec79",
        "fashion/test-labels": "bb300cfdad3c16e7a12a480ee83cd310",
        "svhn/train": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "svhn/extra": "a93ce644f1a588dc4d68dda5feec44a7",
        "svhn/test": "eb5a983be6a315427106f1b164d9cef3",
    }
    assert [DATASETS[kind.__name__] for kind in (Mnist, FashionMnist, Svhn)] == [Mnist, FashionMnist, Svhn]
