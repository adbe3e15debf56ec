"""CIFAR-10-C and CIFAR-100-C from small archives in the published format: reading, reruns, and what is refused."""

import io
import tarfile
from pathlib import Path
from typing import Any

import cifar_archives as archives
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hpo.training.loop
from hpo.data import Cifar10, Cifar100
from hpo.data.archives import ARCHIVES
from hpo.data.cifar_c import BENCHMARK, FURTHER
from hpo.errors import HpoError, UsageError
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.training.evaluation import evaluate_test
from hpo.training.loop import train
from hpo.training.population import Population
from hpo.training.recipe import Member, Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 6  # test images; each file has five times as many
Arrays = dict[str, np.ndarray]


def corrupted(kind: type[Cifar10] | type[Cifar100] = Cifar10) -> Arrays:
    generator = np.random.default_rng(0)
    labels = np.tile(np.arange(COUNT, dtype=np.int64) % kind.classes, 5)
    files = {"labels": labels}
    for name in (*BENCHMARK, *FURTHER):
        files[name] = generator.integers(0, 256, (5 * COUNT, 32, 32, 3), dtype=np.uint8)
    return files


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path, files: Arrays, key: str = "cifar-10-c") -> Path:
    """An accepted archive with these arrays as .npy files in a folder, the last first."""
    folder.mkdir(exist_ok=True)
    path = folder / ARCHIVES[key].name
    with tarfile.open(path, "w") as archive:
        for name, array in reversed(files.items()):
            content = io.BytesIO()
            np.save(content, array, allow_pickle=True)
            member = tarfile.TarInfo(f"{path.stem}/{name}.npy")
            member.size = content.tell()
            content.seek(0)
            archive.addfile(member, content)
    archives.accept(monkeypatch, key, path.read_bytes())
    return path


@pytest.mark.parametrize("kind", [Cifar10, Cifar100])
def test_every_corruption_and_severity_is_read(
    kind: type[Cifar10] | type[Cifar100], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = corrupted(kind)
    publish(monkeypatch, tmp_path, files, f"{kind.archive}-c")
    parts = list(kind(folder=tmp_path, corrupted=True).corrupted_tests())
    assert [name for name, _, _ in parts] == [name for name in BENCHMARK for _ in range(5)]
    means, deviations = (np.asarray(values)[:, None, None] for values in (kind.means, kind.pixel_deviations))
    for number, (name, inputs, labels) in enumerate(parts):
        rows = slice(COUNT * (number % 5), COUNT * (number % 5 + 1))
        assert labels.tolist() == files["labels"][rows].tolist()
        expected = (files[name][rows].transpose(0, 3, 1, 2) / 255 - means) / deviations
        np.testing.assert_allclose(inputs.numpy(), expected, rtol=0, atol=1e-5)
    chosen = kind(folder=tmp_path, corrupted=True, corruptions=("spatter", "fog"), severities=(2, 5))
    some = list(chosen.corrupted_tests())
    assert [name for name, _, _ in some] == ["spatter", "spatter", "fog", "fog"]
    fog = BENCHMARK.index("fog")
    for one, severity in zip(some[2:], (2, 5), strict=True):
        assert torch.equal(one[1], parts[5 * fog + severity - 1][1])
    assert not list(kind(folder=tmp_path).corrupted_tests())


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3072, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs.flatten(1))


def test_reruns_report_the_accuracy_on_corrupted_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over all images, and that of each corruption, as a plain loop has them; trials do not read them."""
    archives.publish(monkeypatch, tmp_path, "cifar-10", COUNT)
    publish(monkeypatch, tmp_path, corrupted())
    dataset = Cifar10(folder=tmp_path, corrupted=True, corruptions=("fog", "snow"), severities=(1, 4, 5))
    trained: list[Population] = []

    def evaluate(population: Population, *further: Any) -> Any:
        trained.append(population)
        return evaluate_test(population, *further)

    monkeypatch.setattr(hpo.training.loop, "evaluate_test", evaluate)
    sgd = {"learning_rate": 0.01, "weight_decay": 0.0, "momentum": 0.9}
    parts = dataset, dataset.load(), Small, REGULARIZERS["none"], OPTIMIZERS["sgd"]
    recipe = Recipe(*parts, epochs=1, batch_size=4)
    members = [Member(0, sgd), Member(1, sgd)]
    assert not any("corrupted" in name or "fog" in name for result in train(recipe, members) for name in result.final)
    for member, result in enumerate(train(recipe, members, test=True)):
        module = Small()
        module.load_state_dict({name: leaf[member] for name, leaf in trained[0].params.items()})
        right: dict[str, list[bool]] = {"fog": [], "snow": []}
        with torch.no_grad():
            for name, inputs, labels in dataset.corrupted_tests():
                for image, label in zip(inputs, labels, strict=True):
                    right[name].append(int(module(image[None]).argmax()) == int(label))
        assert all(len(values) == 3 * COUNT for values in right.values())
        for name, values in right.items():
            assert result.final[f"test_accuracy_{name}"] == pytest.approx(sum(values) / len(values), abs=1e-6)
        everything = right["fog"] + right["snow"]
        assert result.final["test_corrupted_accuracy"] == pytest.approx(sum(everything) / len(everything), abs=1e-6)


def test_a_missing_archive_is_noticed_before_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives.publish(monkeypatch, tmp_path, "cifar-10", COUNT)
    path = publish(monkeypatch, tmp_path, corrupted())
    path.unlink()
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(HpoError, match=r"CIFAR-10-C\.tar is missing and could not be downloaded"):
        Cifar10(folder=tmp_path, corrupted=True).load()
    assert len(Cifar10(folder=tmp_path).load().labels) == 5 * COUNT


def without(name: str) -> Arrays:
    return {file: array for file, array in corrupted().items() if file != name}


@pytest.mark.parametrize(
    "files",
    [
        without("labels"),
        without("fog"),
        corrupted() | {"fog": np.zeros((5 * COUNT, 3, 32, 32), np.uint8)},
        corrupted() | {"fog": np.zeros((COUNT, 32, 32, 3), np.uint8)},
        corrupted() | {"fog": np.zeros((5 * COUNT, 32, 32, 3))},
        corrupted() | {"fog": np.asarray([{}], dtype=object)},  # would have to be unpickled
    ],
)
def test_another_format_is_refused_even_with_the_right_checksum(
    files: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = publish(monkeypatch, tmp_path, files)
    with pytest.raises(HpoError, match="not in the published format") as caught:
        list(Cifar10(folder=tmp_path, corrupted=True).corrupted_tests())
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("corruptions", ()), ("corruptions", ("mist",)), ("severities", (0, 1)), ("severities", ())],
)
def test_unknown_corruptions_are_refused(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^Cifar10: {field} is .*; give a tuple of some of"):
        Cifar10(**{field: value})


def test_the_published_checksums() -> None:
    """As on Zenodo, records 2535967 and 3555552."""
    assert ARCHIVES["cifar-10-c"].md5 == "56bf5dcef84df0e2308c6dcbcbbd8499"
    assert ARCHIVES["cifar-100-c"].md5 == "11f0ed0f1191edbf9fa23466ae6021d3"
    assert len(BENCHMARK) == 15 and len({*BENCHMARK, *FURTHER}) == 19
