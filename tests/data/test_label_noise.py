"""Label noise of both kinds: the labels that a seed changes, and their new classes; see also test_data.py."""

import pytest
import references
import torch

from hpo.data import Cifar10, Cifar100, Dataset, Digits, Mnist, Mnist1d, Source, split
from hpo.errors import UsageError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MISTAKEN = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}


def images(samples: int) -> Source:
    labels = torch.arange(samples) % 10
    return Source(torch.zeros(samples, 1), labels, torch.zeros(4, 1), labels[:4], 10)


def test_asymmetric_noise_mistakes_each_class_for_the_one_it_resembles() -> None:
    """Patrini et al. (2017): five of ten classes, so that 40% of noise changes 20% of the labels."""
    given = images(10_000)
    dataset = Cifar10(label_noise=0.4, noise="asymmetric", validation=0.5)
    for seed in (0, 1000):
        parts = split(given, dataset, seed)
        for true, label in zip(given.labels.tolist(), parts.labels.tolist(), strict=True):
            assert label == true or CLASSES[label] == MISTAKEN[CLASSES[true]]
        for name in CLASSES:
            of_class = given.labels == CLASSES.index(name)
            share = (parts.labels[of_class] != given.labels[of_class]).float().mean()
            assert abs(share - (0.4 if name in MISTAKEN else 0)) < 4 * (0.24 / 1000) ** 0.5
        changed = references.changed_labels(parts.labels, given.labels, parts.training)
        assert sorted(parts.changed.tolist()) == sorted(changed)
    everything = split(given, Cifar10(label_noise=1.0, noise="asymmetric"), 0).labels
    mapped = [CLASSES.index(MISTAKEN.get(CLASSES[label], CLASSES[label])) for label in given.labels]
    assert everything.tolist() == mapped


@pytest.mark.parametrize("classes", [2, 10])
def test_exclusive_noise_changes_every_drawn_label_evenly_to_another_class(classes: int) -> None:
    """As in the code of DivideMix and GVR: 60% of noise changes 60% of the labels, not 54%."""
    total = 9000
    given = images(total)._replace(labels=torch.arange(total) % classes, classes=classes)
    parts = split(given, Dataset(label_noise=0.6, noise="symmetric_exclusive", validation=0.5), 5)
    changed = references.changed_labels(parts.labels, given.labels, torch.arange(total))
    assert len(changed) == 0.6 * total
    assert sorted(parts.changed.tolist()) == sorted(
        references.changed_labels(parts.labels, given.labels, parts.training)
    )
    expected = len(changed) / classes / (classes - 1)
    for true in range(classes):
        counts = torch.bincount(parts.labels[changed][given.labels[changed] == true], minlength=classes)
        assert counts[true] == 0
        rest = [count for label, count in enumerate(counts.tolist()) if label != true]
        assert all(abs(count - expected) < 4.5 * expected**0.5 for count in rest)
    inclusive = split(given, Dataset(label_noise=0.6, validation=0.5), 5)
    redrawn = set(references.changed_labels(inclusive.labels, given.labels, torch.arange(total)))
    assert redrawn < set(changed), "both kinds draw the same samples"


PINNED = {6: 7, 12: 3, 15: 6, 16: 7, 17: 0, 23: 4, 31: 5, 36: 1, 38: 7, 48: 7}  # position -> noisy label


def test_both_kinds_of_noise_draw_the_same_samples() -> None:
    """Which labels a seed draws is pinned: published results could not be repeated otherwise."""
    given = images(50)
    symmetric = split(given, Cifar10(label_noise=0.2), 3)
    asymmetric = split(given, Cifar10(label_noise=0.2, noise="asymmetric"), 3)
    assert torch.equal(symmetric.training, asymmetric.training)
    drawn = {index: int(symmetric.labels[index]) for index in range(50) if symmetric.labels[index] != index % 10}
    assert drawn == PINNED
    mistaken = {index for index in PINNED if CLASSES[index % 10] in MISTAKEN}
    assert {index for index in range(50) if asymmetric.labels[index] != index % 10} == mistaken
    assert torch.equal(split(given, Dataset(label_noise=0.2), 3).labels, symmetric.labels)


@pytest.mark.parametrize("kind", [Cifar100, Digits, Mnist, Mnist1d])
def test_a_data_set_without_confusions_refuses_asymmetric_noise(kind: type[Dataset]) -> None:
    with pytest.raises(UsageError, match=f"{kind.__name__}: noise is 'asymmetric'; .*confusions"):
        kind(label_noise=0.2, noise="asymmetric")
    with pytest.raises(UsageError, match="noise is 'pairs'"):
        kind(noise="pairs")  # type: ignore[arg-type]
