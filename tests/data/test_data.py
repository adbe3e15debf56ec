"""Splits, symmetric label noise, and MNIST-1D with its cache."""

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import references
import torch

from hpo.data import DATASETS, Dataset, Mnist1d, Source, split
from hpo.data import mnist1d as mnist1d_module
from hpo.data.cache import cache_folder
from hpo.errors import HpoError, UsageError
from hpo.random import stream

SAMPLES = 100


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "not there yet" / "cache"
    monkeypatch.setenv("HPO_CACHE", str(folder))
    return folder


def source(samples: int, classes: int = 10) -> Source:
    labels = torch.arange(samples) % classes
    return Source(torch.arange(samples)[:, None].float(), labels, torch.zeros(4, 1), labels[:4], classes)


@pytest.mark.parametrize("how", ["random", "last"])
@pytest.mark.parametrize(("samples", "share", "validation"), [(100, 0.2, 20), (3200, 0.2, 640), (7, 0.5, 4)])
def test_training_and_validation_are_disjoint_and_complete(
    how: str, samples: int, share: float, validation: int
) -> None:
    parts = split(source(samples), Dataset(validation=share, split=how), seed=3)  # type: ignore[arg-type]
    assert len(parts.validation) == validation
    assert sorted([*parts.training.tolist(), *parts.validation.tolist()]) == list(range(samples))


def test_split_last_takes_the_last_samples() -> None:
    """The published GNVR protocol: 2560 training and 640 validation samples, in order, the same for every seed."""
    for seed in (0, 1):
        parts = split(source(3200), Dataset(validation=0.2, split="last"), seed)
        assert parts.training.tolist() == list(range(2560))
        assert parts.validation.tolist() == list(range(2560, 3200))


def test_a_random_split_depends_on_the_seed() -> None:
    parts = [split(source(200), Dataset(), seed).validation.tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1]
    assert set(parts[0]) != set(parts[2])


def test_label_noise_redraws_the_stated_fraction_of_which_a_tenth_stay_the_same() -> None:
    """20% of 10,000 labels over 10 classes: 1800 ± 13 change, evenly over new classes and both parts."""
    given = source(10_000)
    dataset = Dataset(label_noise=0.2, validation=0.5)
    for seed in (0, 1000):
        parts = split(given, dataset, seed)
        changed = references.changed_labels(parts.labels, given.labels, torch.arange(10_000))
        assert abs(len(changed) - 1800) < 4 * (2000 * 0.1 * 0.9) ** 0.5
        assert sorted(parts.changed.tolist()) == sorted(
            references.changed_labels(parts.labels, given.labels, parts.training)
        )
        assert abs(len(parts.changed) - len(changed) / 2) < 4 * (1800 / 4) ** 0.5
        new = Counter(parts.labels[changed].tolist())
        assert all(abs(new[label] - 180) < 4 * 180**0.5 for label in range(10))
    assert torch.equal(given.labels, torch.arange(10_000) % 10)  # the source keeps the true labels


def test_all_labels_or_none_may_be_redrawn() -> None:
    given = source(1000, classes=2)
    everything = split(given, Dataset(label_noise=1.0), 0).labels
    assert abs(len(references.changed_labels(everything, given.labels, torch.arange(1000))) - 500) < 64
    nothing = split(given, Dataset(), 0)
    assert torch.equal(nothing.labels, given.labels)
    assert nothing.changed.tolist() == []


def test_noise_and_split_are_separate_streams() -> None:
    """More noise does not change the split, and another split does not change the noise."""
    quiet, loud = (split(source(100), Dataset(label_noise=noise), 4) for noise in (0.1, 0.5))
    assert torch.equal(quiet.training, loud.training)
    small = split(source(100), Dataset(label_noise=0.1, validation=0.5), 4)
    assert torch.equal(small.labels, quiet.labels)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("label_noise", 1.2), ("label_noise", -0.1), ("validation", 0.0), ("validation", 1.0), ("split", "first")),
        *(("samples", 4005), ("samples", 40), ("samples", 4e3), ("train_split", 1.0), ("train_split", 1e-4)),
        *(("padding", (60, 36)), ("padding", 3), ("padding", (1.5, 3)), ("final_seq_length", 0), ("shuffle_seq", 1)),
        *(("iid_noise_scale", -0.1), ("shear_scale", float("nan")), ("max_translation", True)),
    ],
)
def test_wrong_fields_are_refused(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^Mnist1d: {field} is {re.escape(repr(value))}; give "):
        Mnist1d(**{field: value})


def test_a_data_set_without_load_says_so() -> None:
    with pytest.raises(UsageError, match=r"Dataset has no load\(\)"):
        Dataset().load()


def same(one: Source, other: Source) -> bool:
    return all(torch.equal(*pair) for pair in zip(one[:4], other[:4], strict=True))


def test_mnist1d_is_what_the_package_generates(cache: Path) -> None:
    from mnist1d.data import get_dataset_args, make_dataset

    loaded = Mnist1d(samples=SAMPLES).load()
    assert loaded.inputs.shape == (80, 40)
    assert loaded.test_inputs.shape == (20, 40)
    assert loaded.inputs.dtype == torch.float32
    assert loaded.labels.dtype == torch.int64
    assert loaded.classes == 10
    settings = get_dataset_args()
    settings.num_samples = SAMPLES
    expected = make_dataset(settings)
    for array, name in zip(loaded[:4], ("x", "y", "x_test", "y_test"), strict=True):
        assert np.array_equal(array.numpy(), np.asarray(expected[name]).astype(array.numpy().dtype))
    assert [path.suffix for path in cache.iterdir()] == [".npz"]  # no temporary file is left
    assert DATASETS["Mnist1d"] is Mnist1d


# Another value of every argument of the generator.
GENERATORS: dict[str, Any] = {
    "train_split": 0.6, "template_len": 20, "padding": (10, 30), "scale_coeff": 1.2, "max_translation": 5,
    "corr_noise_scale": 0.5, "iid_noise_scale": 0.3, "shear_scale": 0.1, "shuffle_seq": True, "final_seq_length": 64,
}  # fmt: skip


@pytest.mark.parametrize("name", GENERATORS)
def test_every_argument_of_the_generator_can_be_chosen(cache: Path, name: str) -> None:
    from mnist1d.data import get_dataset_args, make_dataset

    settings = get_dataset_args()
    settings.num_samples = SAMPLES
    default = make_dataset(settings)
    setattr(settings, name, GENERATORS[name])
    expected = make_dataset(settings)
    assert not np.array_equal(default["x"], expected["x"])
    Mnist1d(samples=SAMPLES).load()
    loaded = Mnist1d(samples=SAMPLES, **{name: GENERATORS[name]}).load()  # not what is cached for other arguments
    for array, part in zip(loaded[:4], ("x", "y", "x_test", "y_test"), strict=True):
        assert np.array_equal(array.numpy(), np.asarray(expected[part]).astype(array.numpy().dtype))
    assert len(list(cache.iterdir())) == 2


def test_the_defaults_are_those_of_the_generator() -> None:
    from mnist1d.data import get_dataset_args

    published = get_dataset_args(as_dict=True)
    assert GENERATORS.keys() == published.keys() - {"num_samples", "seed", "url"}
    dataset = Mnist1d()
    assert dataset.generator_seed == published["seed"]
    for name in GENERATORS:
        value = getattr(dataset, name)
        assert (list(value) if name == "padding" else value) == published[name]


def test_permuted_sequences_cannot_be_shifted() -> None:
    with pytest.raises(UsageError, match="give shift=0"):
        Mnist1d(shuffle_seq=True, augmented=True)
    assert Mnist1d(shuffle_seq=True, augmented=True, shift=0).augments


def test_every_data_set_has_its_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = Mnist1d(samples=SAMPLES), Mnist1d(samples=SAMPLES, generator_seed=7)
    loaded = {dataset: dataset.load() for dataset in (first, other)}
    assert len(list(cache.iterdir())) == 2
    assert not torch.equal(loaded[first].inputs, loaded[other].inputs)
    monkeypatch.setattr(mnist1d_module, "_generate", lambda _: pytest.fail("generated although it is in the cache"))
    noisy = Mnist1d(samples=SAMPLES, label_noise=0.5)  # noise depends on the seed and is not cached
    for dataset, cached in ((first, first), (other, other), (noisy, first)):
        assert same(dataset.load(), loaded[cached])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "bits flipped": lambda content: content[:2000] + bytes(255 - byte for byte in content[2000:2100]) + content[2100:],
    "something else": lambda _: b"no archive at all",
}


@pytest.mark.parametrize("damage", [*DAMAGES, "an array missing"])
def test_a_damaged_cache_is_replaced(cache: Path, damage: str) -> None:
    expected = Mnist1d(samples=SAMPLES).load()
    (path,) = cache.iterdir()
    if damage in DAMAGES:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    else:
        np.savez(path, x=np.zeros(3))
    for _ in range(2):  # generated again, and then read
        assert same(Mnist1d(samples=SAMPLES).load(), expected)
    assert [file.name for file in cache.iterdir()] == [path.name]
    with np.load(path) as stored:
        assert set(stored) == {"x", "y", "x_test", "y_test"}


def test_an_unwritable_cache_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a file where a folder is needed")
    monkeypatch.setenv("HPO_CACHE", str(tmp_path / "file"))
    with pytest.raises(HpoError) as caught:
        Mnist1d(samples=SAMPLES).load()
    message = str(caught.value)
    assert str(tmp_path / "file") in message and "HPO_CACHE" in message and "\n" not in message


def test_a_full_disk_leaves_no_half_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(HpoError, match=r"No space left on device.*HPO_CACHE"):
        Mnist1d(samples=SAMPLES).load()
    assert list(cache.iterdir()) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HPO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "hpo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "hpo"


@pytest.mark.usefixtures("cache")
def test_global_generators_are_unchanged() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), torch.rand(1).item()  # noqa: NPY002

    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    loaded = Mnist1d(samples=SAMPLES, label_noise=0.2).load()
    split(loaded, Mnist1d(samples=SAMPLES, label_noise=0.2), seed=0)
    assert draws() == expected


def test_streams_are_named_and_repeatable() -> None:
    def draw(*names: object) -> int:
        return int(torch.randint(2**62, (), generator=stream(*names)))  # type: ignore[arg-type]

    names = [(0, "data", "order", 1), (0, "data", "order", 11), (1, "data", "order", 1), (0, "training", "order", 1)]
    values = [draw(*name) for name in names]
    assert len(set(values)) == len(names)
    assert values == [draw(*name) for name in names]
    # Pinned: a seed means the same draws in every version, or published results could not be repeated.
    assert torch.randperm(5, generator=stream(0, "data", "split")).tolist() == [2, 1, 3, 4, 0]
