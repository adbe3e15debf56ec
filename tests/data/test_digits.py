"""Digits: real images, a fixed test set, and one sentence if scikit-learn is missing."""

import sys

import pytest
import torch
from sklearn.datasets import load_digits

from hpo.data import DATASETS, Digits, split
from hpo.data.digits import DEVIATION, MEAN
from hpo.errors import HpoError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_image_of_scikit_learn_occurs_once() -> None:
    """In the order of the file, with grey values from 0 to 1 that are then standardised; 36 test images a class."""
    loaded = Digits().load()
    bunch = load_digits()
    assert loaded.inputs.shape == (1437, 1, 8, 8) and loaded.test_inputs.shape == (360, 1, 8, 8)
    assert (loaded.inputs.dtype, loaded.labels.dtype, loaded.classes) == (torch.float32, torch.int64, 10)
    left = {label: int((bunch.target == label).sum()) for label in range(10)}
    training, test = 0, 0
    for image, label in zip(bunch.images, bunch.target, strict=True):
        if left[label] > 36:
            image_as_loaded, loaded_label = loaded.inputs[training, 0], loaded.labels[training]
            training += 1
        else:
            image_as_loaded, loaded_label = loaded.test_inputs[test, 0], loaded.test_labels[test]
            test += 1
        left[label] -= 1
        expected = (torch.from_numpy(image) / 16 - MEAN) / DEVIATION
        assert int(loaded_label) == label
        assert torch.allclose(image_as_loaded.double(), expected, rtol=0, atol=1e-6)
    assert (training, test) == (1437, 360)
    assert DATASETS["Digits"] is Digits


def test_standardisation_does_not_use_the_test_set() -> None:
    loaded = Digits().load()
    assert abs(loaded.inputs.double().mean()) < 2e-4
    assert abs(loaded.inputs.double().std() - 1) < 2e-4
    assert loaded.inputs.min() == loaded.test_inputs.min() == pytest.approx(-MEAN / DEVIATION)


def test_the_test_set_is_balanced_and_the_same_for_all_seeds() -> None:
    loaded = Digits(label_noise=0.3).load()
    assert torch.bincount(loaded.test_labels).tolist() == [36] * 10
    for seed in (0, 1):
        parts = split(loaded, Digits(label_noise=0.3), seed)
        assert sorted([*parts.training.tolist(), *parts.validation.tolist()]) == list(range(1437))
    augmented = Digits(augmented=True).load()
    assert all(torch.equal(*pair) for pair in zip(loaded[:4], augmented[:4], strict=True))


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)  # importing it fails
    assert Digits().label_noise == 0  # only load() needs it
    with pytest.raises(HpoError, match=r"pip install 'scikit-learn"):
        Digits().load()
