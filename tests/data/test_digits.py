"""Digits: real images, a fixed test part, and one sentence where the package is missing."""

import builtins
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from hpo.data import DATASETS, Digits, split
from hpo.data.digits import DEVIATION, MEAN
from hpo.errors import HpoError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_images_are_scikit_learns_own() -> None:
    """Every image is there once, in the order of the file, its grey values from 0 to 1 and then standardised."""
    loaded = Digits().load()
    bunch = load_digits()
    assert loaded.inputs.shape == (1437, 1, 8, 8)
    assert loaded.test_inputs.shape == (360, 1, 8, 8)
    assert loaded.inputs.dtype == torch.float32
    assert loaded.labels.dtype == torch.int64
    assert loaded.classes == 10
    left = {label: int((bunch.target == label).sum()) for label in range(10)}
    outside, inside = 0, 0
    for image, label in zip(bunch.images, bunch.target, strict=True):
        if left[label] > 36:
            found, known = loaded.inputs[outside, 0], loaded.labels[outside]
            outside += 1
        else:
            found, known = loaded.test_inputs[inside, 0], loaded.test_labels[inside]
            inside += 1
        left[label] -= 1
        expected = (torch.from_numpy(image) / 16 - MEAN) / DEVIATION
        assert int(known) == label
        assert torch.allclose(found.double(), expected, rtol=0, atol=1e-6)
    assert (outside, inside) == (1437, 360)
    assert DATASETS["Digits"] is Digits


def test_they_are_standardised_without_the_test_set() -> None:
    loaded = Digits().load()
    assert abs(loaded.inputs.double().mean()) < 2e-4
    assert abs(loaded.inputs.double().std() - 1) < 2e-4
    assert loaded.inputs.min() == loaded.test_inputs.min() == pytest.approx(-MEAN / DEVIATION)


def test_the_test_set_is_balanced_and_no_seeds_affair() -> None:
    loaded = Digits(label_noise=0.3).load()
    assert torch.bincount(loaded.test_labels).tolist() == [36] * 10
    for seed in (0, 1):
        made = split(loaded, Digits(label_noise=0.3), seed)
        assert sorted([*made.training.tolist(), *made.validation.tolist()]) == list(range(1437))
    again = Digits(augmented=True).load()
    assert all(torch.equal(*pair) for pair in zip(loaded[:4], again[:4], strict=True))


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ModuleNotFoundError("No module named 'sklearn'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert Digits().label_noise == 0  # naming it needs nothing
    with pytest.raises(HpoError) as caught:
        Digits().load()
    assert str(caught.value) == "Digits needs the scikit-learn package: pip install 'scikit-learn>=1.5'"
