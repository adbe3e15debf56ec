"""Loading a data set: what it draws is the same each time, and what cannot be trained on is refused beforehand."""

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from hpo.data import Dataset, Source, check_fit, check_source, load_source
from hpo.errors import UsageError
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.training.loop import Member, Recipe, Result, train
from hpo.user_code.messages import warn_once

pytestmark = pytest.mark.usefixtures("one_thread")

SGD = {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.9}
CLASSES = 3


def plain(samples: int = 40) -> Source:
    """Three clouds of four features, and half as many for the test."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples * 3 // 2) % CLASSES
    inputs = torch.randn(len(labels), 4, generator=generator) + 2 * labels[:, None]
    return Source(inputs[:samples], labels[:samples], inputs[samples:], labels[samples:], CLASSES)


@dataclass(frozen=True)
class Given(Dataset):
    """Clouds, split and noisy as asked for."""

    def load(self) -> Source:
        return plain()


def trained(source: Any, dataset: Dataset | None = None, features: int = 4) -> Result:
    """A run of one model, with the test set."""
    recipe = Recipe(
        dataset or Given(), source, lambda: nn.Linear(features, CLASSES), REGULARIZERS["none"], OPTIMIZERS["sgd"],
        epochs=2, batch_size=8,
    )  # fmt: skip
    return train(recipe, [Member(0, SGD)], test=True)[0]


@pytest.fixture
def warnings_said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    warn_once.cache_clear()
    caplog.set_level(logging.WARNING, logger="hpo")
    return lambda: [record.getMessage() for record in caplog.records]


@dataclass(frozen=True)
class Drawn(Dataset):
    """Samples and labels from all three global generators."""

    def load(self) -> Source:
        inputs = torch.randn(20, 2) + torch.from_numpy(np.random.randn(20, 2)).float()  # noqa: NPY002
        labels = torch.tensor([random.randrange(2) for _ in range(20)])
        order = torch.from_numpy(np.random.permutation(20))  # noqa: NPY002
        return Source(inputs[order], labels[order], inputs, labels, 2)


class Duck:
    """Is no subclass of Dataset."""

    def load(self) -> Source:
        return Drawn.load.__wrapped__(Drawn())  # type: ignore[attr-defined]


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def seed_all(number: int) -> None:
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch.manual_seed(number)


@pytest.mark.parametrize("load", [lambda: Drawn().load(), lambda: load_source(Drawn()), lambda: load_source(Duck())])
def test_a_data_set_that_draws_is_the_same_each_time(load: Callable[[], Source]) -> None:
    with torch.random.fork_rng(devices=[]):
        sources, later = [], []
        for number in (1, 2):
            seed_all(number)
            sources.append(load())
            later.append(draws())
            seed_all(number)
            assert draws() == later[-1]  # the caller's generators are where they were
    assert later[0] != later[1]
    expected = load_source(Drawn())
    assert len(set(expected.labels.tolist())) == 2 and expected.inputs.unique().numel() == 40
    for source in sources:
        assert all(torch.equal(*pair) for pair in zip(source[:4], expected[:4], strict=True))


def test_generators_are_restored_where_loading_fails() -> None:
    @dataclass(frozen=True)
    class Broken(Dataset):
        def load(self) -> Source:
            draws()
            raise OSError("no such file")

    with torch.random.fork_rng(devices=[]):
        seed_all(3)
        expected = draws()
        seed_all(3)
        with pytest.raises(OSError, match="no such file"):
            load_source(Broken())
        assert draws() == expected


def frozen(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flags.writeable = False
    return values


Change = Callable[[Tensor], Any]
SAME_INPUTS: dict[str, Change] = {
    "numpy": lambda inputs: inputs.numpy(),
    "read-only": lambda inputs: frozen(inputs.numpy()),
    "backwards": lambda inputs: inputs.flip(0).numpy()[::-1],
    "float64 of numpy": lambda inputs: inputs.double().numpy(),
    "big-endian": lambda inputs: inputs.numpy().astype(">f4"),
    "lists": lambda inputs: inputs.tolist(),
    "a table": lambda inputs: pd.DataFrame(inputs.numpy()),
    "a list of arrays": lambda inputs: list(inputs.numpy()),
    "with a gradient": lambda inputs: inputs.clone().requires_grad_(),
    "not contiguous": lambda inputs: inputs.t().contiguous().t(),
}
SAME_LABELS: dict[str, Change] = {
    "int32": Tensor.int,
    "uint8": Tensor.byte,
    "int16 of numpy": lambda labels: labels.short().numpy(),
    "uint16 of numpy": lambda labels: labels.numpy().astype(np.uint16),
    "a list": Tensor.tolist,
    "a table's column": lambda labels: pd.Series(labels.numpy()),
    "a column": lambda labels: labels[:, None],
    "a column of numpy": lambda labels: labels[:, None].int().numpy(),
}


@pytest.mark.parametrize("case", SAME_INPUTS)
def test_inputs_may_come_in_many_ways(case: str) -> None:
    change, source = SAME_INPUTS[case], plain()
    changed = source._replace(inputs=change(source.inputs), test_inputs=change(source.test_inputs))
    found = check_source(changed)
    assert torch.equal(found.inputs, source.inputs) and torch.equal(found.test_inputs, source.test_inputs)
    assert found.inputs.dtype == torch.float32 and not found.inputs.requires_grad
    assert trained(changed) == trained(source)


@pytest.mark.parametrize("case", SAME_LABELS)
def test_class_numbers_may_come_in_many_ways(case: str) -> None:
    change, source = SAME_LABELS[case], plain()
    changed = source._replace(labels=change(source.labels), test_labels=change(source.test_labels))
    found = check_source(changed)
    for one, other in zip(found[1::2], source[1::2], strict=True):
        assert one.dtype == torch.int64 and torch.equal(one, other)  # type: ignore[union-attr]
    assert trained(changed) == trained(source)


def test_truth_values_are_two_classes() -> None:
    source = plain()
    found = check_source(source._replace(labels=source.labels > 0, test_labels=source.test_labels > 0, classes=2))
    assert torch.equal(found.labels, (source.labels > 0).long())


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_keep_their_type(kind: torch.dtype) -> None:
    source = plain()
    changed = source._replace(inputs=source.inputs.to(kind), test_inputs=source.test_inputs.to(kind))
    assert check_source(changed).inputs.dtype == kind


def test_float64_of_numpy_stays_where_float32_is_too_coarse() -> None:
    """Seconds since 1970: float32 tells every 128th from the next."""
    source = plain()
    seconds = [1.7e9 + 10 * part.double().numpy() for part in (source.inputs, source.test_inputs)]
    found = check_source(source._replace(inputs=seconds[0], test_inputs=seconds[1]))
    for one, other in zip(found[::2], seconds, strict=False):
        assert one.dtype == torch.float64 and np.array_equal(one.numpy(), other)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"inputs are float64, .*inputs.float\(\)"):
        trained(found)


def test_a_constant_of_float64_is_not_too_coarse() -> None:
    source = plain()
    parts = [np.hstack([part.double().numpy(), np.full((len(part), 1), 0.1)]) for part in source[:3:2]]
    found = check_source(source._replace(inputs=parts[0], test_inputs=parts[1]))
    assert found.inputs.dtype == found.test_inputs.dtype == torch.float32


@pytest.mark.parametrize("classes", [3, np.int64(3), torch.tensor(3)])
def test_classes_may_be_any_whole_number(classes: Any) -> None:
    found = check_source(plain()._replace(classes=classes))
    assert found.classes == 3 and type(found.classes) is int


def with_entry(tensor: Tensor, place: Any, value: float) -> Tensor:
    changed = tensor.clone()
    changed[place] = value
    return changed


# What is wrong -> the source, and what the sentence must name.
WRONG: dict[str, tuple[Callable[[Source], Any], str]] = {
    "a list of parts": (list, "a list"),
    "a tuple": (tuple, "a tuple"),
    "nothing": (lambda _: None, "None"),
    "words": (lambda s: s._replace(inputs=["a"] * 40), "inputs"),
    "ragged lists": (lambda s: s._replace(inputs=[[1.0]] * 39 + [[1.0, 2.0]]), "inputs"),
    "no array": (lambda s: s._replace(test_inputs=object()), "test_inputs"),
    "a number": (lambda s: s._replace(inputs=torch.tensor(1.0)), "inputs"),
    "nested": (lambda s: s._replace(inputs=torch.nested.nested_tensor(list(s.inputs), layout=torch.jagged)), "inputs"),
    "masked": (
        lambda s: s._replace(inputs=np.ma.masked_array(s.inputs.numpy(), np.arange(160).reshape(40, 4) == 13)),
        r"inputs\[3\]",
    ),
    "sparse": (lambda s: s._replace(inputs=s.inputs.to_sparse()), "inputs"),
    "one input too few": (lambda s: s._replace(inputs=s.inputs[:-1]), "39 inputs and 40 labels"),
    "one test label too few": (lambda s: s._replace(test_labels=s.test_labels[1:]), "20 test_inputs and 19 test_la"),
    "no samples": (lambda s: s._replace(inputs=s.inputs[:0], labels=s.labels[:0]), "inputs has no samples"),
    "no test samples": (
        lambda s: s._replace(test_inputs=s.test_inputs[:0], test_labels=s.test_labels[:0]),
        "test_inputs has no samples",
    ),
    "NaN": (lambda s: s._replace(inputs=with_entry(s.inputs, (5, 2), float("nan"))), r"inputs\[5\]"),
    "infinities of both signs": (
        lambda s: s._replace(inputs=with_entry(with_entry(s.inputs, (7, 0), -torch.inf), (9, 1), torch.inf)),
        r"inputs\[7\].*2 of 40",
    ),
    "NaN in the test set": (
        lambda s: s._replace(test_inputs=with_entry(s.test_inputs, (19, 3), float("nan"))),
        r"test_inputs\[19\]",
    ),
    "NaN of numpy": (
        lambda s: s._replace(inputs=with_entry(s.inputs, (5, 2), float("nan")).numpy()), r"inputs\[5\]",
    ),
    "labels in words": (lambda s: s._replace(labels=["cat", "dog"] * 20), r"labels is a list.*unique\(labels"),
    "test labels in words": (
        lambda s: s._replace(test_labels=np.array(["cat", "dog"] * 10)), r"test_labels is .*unique\(test_labels",
    ),
    "of two signs": (
        lambda s: s._replace(labels=s.labels % 2 * 2 - 1, test_labels=s.test_labels % 2, classes=2),
        r"labels\[0\] is -1.*\(labels \+ 1\) // 2",
    ),
    "labels float": (lambda s: s._replace(labels=s.labels.float()), "labels are float32"),
    "a column of float": (lambda s: s._replace(labels=s.labels[:, None].double()), "labels are float64"),
    "test labels float": (lambda s: s._replace(test_labels=s.test_labels.float()), "test_labels are float32"),
    "one-hot": (lambda s: s._replace(labels=nn.functional.one_hot(s.labels)), r"labels have shape \(40, 3\)"),
    "one-hot in float": (
        lambda s: s._replace(labels=nn.functional.one_hot(s.labels).float()), r"labels have shape \(40, 3\).*argmax",
    ),
    "a label for each position": (
        lambda s: s._replace(labels=s.labels[:, None, None].expand(-1, 2, 2)), r"labels have shape \(40, 2, 2\)",
    ),
    "to be ignored": (lambda s: s._replace(labels=with_entry(s.labels, 9, -100)), r"labels\[9\] is -100.*leave"),
    "from 1": (lambda s: s._replace(labels=s.labels + 1), r"labels\[2\] is 3.*labels - 1"),
    "from 1 in the test set alone": (lambda s: s._replace(test_labels=s.test_labels + 1), r"test_labels\[1\] is 3"),
    "classes too small": (lambda s: s._replace(classes=2), r"labels\[2\] is 2.*classes=3"),
    "one class": (lambda s: s._replace(labels=s.labels * 0, test_labels=s.test_labels * 0, classes=1), "classes is 1"),
    "classes of float": (lambda s: s._replace(classes=3.0), "classes is 3.0"),
    "classes of bool": (lambda s: s._replace(classes=True), "classes is True"),
    "other samples in the test set": (lambda s: s._replace(test_inputs=s.test_inputs[:, :3]), r"\(4,\).*\(3,\)"),
    "another type in the test set": (lambda s: s._replace(test_inputs=s.test_inputs.double()), "float32.*float64"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_trained_on_is_refused_before_training(case: str) -> None:
    change, named = WRONG[case]

    @dataclass(frozen=True)
    class Wrong(Dataset):
        def load(self) -> Source:
            return change(plain())

    def never() -> nn.Module:
        raise AssertionError("a network was built")

    with pytest.raises(UsageError, match=named) as caught:
        load_source(Wrong())
    assert "\n" not in str(caught.value)
    given = change(plain())
    recipe = Recipe(Given(), given, never, REGULARIZERS["none"], OPTIMIZERS["sgd"], epochs=1, batch_size=8)
    with pytest.raises(UsageError, match=named):
        train(recipe, [Member(0, SGD)])


def test_large_numbers_whose_sum_overflows_are_no_infinity() -> None:
    source = plain()
    huge = torch.full_like(source.inputs, 3e38)
    assert not huge.sum().isfinite()
    assert torch.equal(check_source(source._replace(inputs=huge)).inputs, huge)


def test_a_source_is_checked_once_and_again_when_it_changes() -> None:
    checked = check_source(plain())
    assert check_source(checked) is checked
    with pytest.raises(UsageError, match="test_labels"):
        check_source(checked._replace(test_labels=checked.test_labels + 1))


def test_checking_again_costs_nothing() -> None:
    """What every population of a study does: as fast for a thousand times the samples."""
    source = check_source(plain())
    inputs, test_inputs = torch.zeros(60_000, 500), source.inputs[:, :1].expand(-1, 500)
    large = check_source(Source(inputs, torch.arange(60_000) % 3, test_inputs, source.labels, 3))
    start = time.perf_counter()
    for _ in range(100):
        check_source(large)
    assert time.perf_counter() - start < 0.1


def in_order(labels: Tensor) -> Source:
    return check_source(plain()._replace(labels=labels))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (plain().labels.sort().values, "sorted"),
        (plain().labels.sort(descending=True).values, "sorted"),
        (torch.cat([torch.arange(32) % 2, torch.full((8,), 2)]), "class 2"),
        (plain().labels, None),
        (torch.arange(40) // 20 % 2 * 2 - (torch.arange(40) == 39).long() + (torch.arange(40) == 0).long(), None),
    ],
)
def test_the_last_samples_of_sorted_labels_are_warned_of(
    labels: Tensor, said: str | None, warnings_said: Callable[[], list[str]]
) -> None:
    source = in_order(labels)
    check_fit(Given(), source)
    before = warnings_said()
    trained(source, Given(split="last"))
    trained(source, Given(split="last"))
    new = [text for text in warnings_said() if text not in before]
    assert len(new) == (said is not None) and all("split='last'" in text and said in text for text in new)  # type: ignore[operator]


def test_a_class_without_samples_is_warned_of(warnings_said: Callable[[], list[str]]) -> None:
    check_source(plain())
    assert not warnings_said()
    check_source(plain()._replace(classes=5))
    (text,) = warnings_said()
    assert "class 3" in text and "classes is 5" in text


def test_confusions_of_classes_that_there_are_not() -> None:
    @dataclass(frozen=True)
    class Mistaken(Given):
        confusions: ClassVar[Mapping[int, int]] = {0: 1, 2: 7}

    noisy = Mistaken(label_noise=0.5, noise="asymmetric")
    with pytest.raises(UsageError, match="confusions take class 2 for 7, and classes is 3"):
        trained(plain(), noisy)
    trained(plain(), Mistaken(label_noise=0.5))  # symmetric: nobody asks for them


@dataclass(frozen=True)
class Unseeded(Dataset):
    seed: int | None = None

    def load(self) -> Source:
        source = plain()
        return source._replace(inputs=source.inputs + np.random.default_rng(self.seed).normal())


def test_a_load_that_gives_other_samples_each_time_is_refused() -> None:
    with pytest.raises(UsageError, match="each time"):
        load_source(Unseeded())
    assert torch.equal(load_source(Unseeded(seed=3)).inputs, load_source(Unseeded(seed=3)).inputs)
