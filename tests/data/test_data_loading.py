"""Loading a data set: random draws are the same each time, and samples that cannot be used are refused."""

import logging
import random
import time
import warnings
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
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe, Result
from hpo.user_code.messages import warn_once

pytestmark = pytest.mark.usefixtures("one_thread")

SGD = {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.9}
CLASSES = 3


def plain(samples: int = 40, **changes: Any) -> Source:
    """Three clouds of four features, and half as many test samples; with changed fields."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples * 3 // 2) % CLASSES
    inputs = torch.randn(len(labels), 4, generator=generator) + 2 * labels[:, None]
    source = Source(inputs[:samples], labels[:samples], inputs[samples:], labels[samples:], CLASSES)
    return source._replace(**changes)


@dataclass(frozen=True)
class Clouds(Dataset):
    def load(self) -> Source:
        return plain()


def recipe(source: Any, dataset: Dataset | None = None, model: Callable[[], nn.Module] | None = None) -> Recipe:
    def linear() -> nn.Module:
        return nn.Linear(4, CLASSES)

    parts = (REGULARIZERS["none"], OPTIMIZERS["sgd"])
    return Recipe(dataset or Clouds(), source, model or linear, *parts, epochs=1, batch_size=8)


def trained(source: Any, dataset: Dataset | None = None) -> Result:
    """The result of one model, with the test set."""
    return train(recipe(source, dataset), [Member(0, SGD)], test=True)[0]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
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


class NoSubclass:
    """Has a `load`, but is no subclass of Dataset."""

    def load(self) -> Source:
        return Drawn.load.__wrapped__(Drawn())  # type: ignore[attr-defined]


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def seed_all(number: int) -> None:
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch.manual_seed(number)


@pytest.mark.parametrize(
    "load", [lambda: Drawn().load(), lambda: load_source(Drawn()), lambda: load_source(NoSubclass())]
)
def test_a_data_set_that_draws_is_the_same_each_time(load: Callable[[], Source]) -> None:
    with torch.random.fork_rng(devices=[]):
        sources, later = [], []
        for number in (1, 2):
            seed_all(number)
            sources.append(load())
            later.append(draws())
            seed_all(number)
            assert draws() == later[-1]  # the caller's generators are unchanged
    assert later[0] != later[1]
    expected = load_source(Drawn())
    assert len(set(expected.labels.tolist())) == 2 and expected.inputs.unique().numel() == 40
    for source in sources:
        assert all(torch.equal(*pair) for pair in zip(source[:4], expected[:4], strict=True))


def test_generators_are_restored_after_a_failed_load() -> None:
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


SAME_INPUTS: dict[str, Callable[[Tensor], Any]] = {
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
SAME_LABELS: dict[str, Callable[[Tensor], Any]] = {
    "int32": Tensor.int,
    "uint8": Tensor.byte,
    "int16 of numpy": lambda labels: labels.short().numpy(),
    "uint16 of numpy": lambda labels: labels.numpy().astype(np.uint16),
    "a list": Tensor.tolist,
    "a table's column": lambda labels: pd.Series(labels.numpy()),
    "a column": lambda labels: labels[:, None],
    "a column of numpy": lambda labels: labels[:, None].int().numpy(),
}
SAME = [("inputs", case) for case in SAME_INPUTS] + [("labels", case) for case in SAME_LABELS]


@pytest.mark.parametrize(("field", "case"), SAME)
def test_inputs_and_labels_may_have_many_types(field: str, case: str) -> None:
    source, convert = plain(), (SAME_INPUTS if field == "inputs" else SAME_LABELS)[case]
    changed = plain(**{name: convert(getattr(source, name)) for name in (field, f"test_{field}")})
    checked = check_source(changed)
    for one, other in zip(checked[:4], source[:4], strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other) and not one.requires_grad
    assert trained(changed) == trained(source)


def test_booleans_are_two_classes() -> None:
    source = plain()
    checked = check_source(plain(labels=source.labels > 0, test_labels=source.test_labels > 0, classes=2))
    assert torch.equal(checked.labels, (source.labels > 0).long())


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_keep_their_type(kind: torch.dtype) -> None:
    source = plain()
    changed = plain(inputs=source.inputs.to(kind), test_inputs=source.test_inputs.to(kind))
    assert check_source(changed).inputs.dtype == kind


def test_float64_of_numpy_is_kept_where_float32_is_too_coarse() -> None:
    """Seconds since 1970: in float32 neighbours are 128 seconds apart."""
    source = plain()
    seconds = [1.7e9 + 10 * part.double().numpy() for part in (source.inputs, source.test_inputs)]
    checked = check_source(plain(inputs=seconds[0], test_inputs=seconds[1]))
    for one, other in zip(checked[::2], seconds, strict=False):
        assert one.dtype == torch.float64 and np.array_equal(one.numpy(), other)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"inputs are float64, .*inputs.float\(\)"):
        trained(checked)


def test_float32_is_not_too_coarse_for_a_constant() -> None:
    source = plain()
    parts = [np.hstack([part.double().numpy(), np.full((len(part), 1), 0.1)]) for part in source[:3:2]]
    checked = check_source(plain(inputs=parts[0], test_inputs=parts[1]))
    assert checked.inputs.dtype == checked.test_inputs.dtype == torch.float32


@pytest.mark.parametrize("classes", [3, np.int64(3), torch.tensor(3)])
def test_classes_may_be_any_whole_number(classes: Any) -> None:
    checked = check_source(plain(classes=classes))
    assert checked.classes == 3 and type(checked.classes) is int


def with_entry(tensor: Tensor, index: Any, value: float) -> Tensor:
    changed = tensor.clone()
    changed[index] = value
    return changed


def nested(inputs: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype, says PyTorch
        return torch.nested.nested_tensor(list(inputs))


NAN, INF = float("nan"), torch.inf
INPUTS, LABELS, TEST_INPUTS, TEST_LABELS, _ = plain()
WRONG: list[tuple[Any, str]] = [
    (list(plain()), "a list"),
    (tuple(plain()), "a tuple"),
    (None, "None"),
    (plain(inputs=["a"] * 40), "inputs"),
    (plain(inputs=[[1.0]] * 39 + [[1.0, 2.0]]), "inputs"),
    (plain(test_inputs=object()), "test_inputs"),
    (plain(inputs=torch.tensor(1.0)), "inputs"),
    (plain(inputs=nested(INPUTS)), "inputs is a sparse or nested"),
    (plain(inputs=INPUTS.to_sparse()), "inputs is a sparse or nested"),
    (plain(inputs=np.ma.masked_array(INPUTS.numpy(), np.arange(160).reshape(40, 4) == 13)), r"inputs\[3\]"),
    (plain(inputs=INPUTS[:-1]), "39 inputs and 40 labels"),
    (plain(test_labels=TEST_LABELS[1:]), "20 test_inputs and 19 test_labels"),
    (plain(inputs=INPUTS[:0], labels=LABELS[:0]), "inputs has no samples"),
    (plain(test_inputs=TEST_INPUTS[:0], test_labels=TEST_LABELS[:0]), "test_inputs has no samples"),
    (plain(inputs=with_entry(INPUTS, (5, 2), NAN)), r"inputs\[5\]"),
    (plain(inputs=with_entry(with_entry(INPUTS, (7, 0), -INF), (9, 1), INF)), r"inputs\[7\].*2 of 40"),
    (plain(test_inputs=with_entry(TEST_INPUTS, (19, 3), NAN)), r"test_inputs\[19\]"),
    (plain(inputs=with_entry(INPUTS, (5, 2), NAN).numpy()), r"inputs\[5\]"),
    (plain(labels=["cat", "dog"] * 20), r"labels is a list.*unique\(labels"),
    (plain(test_labels=np.array(["cat", "dog"] * 10)), r"test_labels is .*unique\(test_labels"),
    (
        plain(labels=LABELS % 2 * 2 - 1, test_labels=TEST_LABELS % 2, classes=2),
        r"labels\[0\] is -1.*\(labels \+ 1\) // 2",
    ),
    (plain(labels=LABELS.float()), "labels are float32"),
    (plain(labels=LABELS[:, None].double()), "labels are float64"),
    (plain(test_labels=TEST_LABELS.float()), "test_labels are float32"),
    (plain(labels=nn.functional.one_hot(LABELS)), r"labels have shape \(40, 3\)"),
    (plain(labels=nn.functional.one_hot(LABELS).float()), r"labels have shape \(40, 3\).*argmax"),
    (plain(labels=LABELS[:, None, None].expand(-1, 2, 2)), r"labels have shape \(40, 2, 2\)"),
    (plain(labels=with_entry(LABELS, 9, -100)), r"labels\[9\] is -100.*remove"),
    (plain(labels=LABELS + 1), r"labels\[2\] is 3.*labels - 1"),
    (plain(test_labels=TEST_LABELS + 1), r"test_labels\[1\] is 3"),
    (plain(classes=2), r"labels\[2\] is 2.*classes=3"),
    (plain(labels=LABELS * 0, test_labels=TEST_LABELS * 0, classes=1), "classes is 1"),
    (plain(classes=3.0), r"classes is 3\.0"),
    (plain(classes=True), "classes is True"),
    (plain(test_inputs=TEST_INPUTS[:, :3]), r"\(4,\).*\(3,\)"),
    (plain(test_inputs=TEST_INPUTS.double()), "float32.*float64"),
]


@pytest.mark.parametrize(("given", "named"), WRONG, ids=[named for _, named in WRONG])
def test_unusable_samples_are_refused_before_training(given: Any, named: str) -> None:
    @dataclass(frozen=True)
    class Wrong(Dataset):
        def load(self) -> Source:
            return given

    with pytest.raises(UsageError, match=named) as caught:
        load_source(Wrong())
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=named):
        train(recipe(given, model=lambda: pytest.fail("a network was built")), [Member(0, SGD)])


def test_large_numbers_whose_sum_overflows_are_finite() -> None:
    huge = torch.full_like(plain().inputs, 3e38)
    assert not huge.sum().isfinite()
    assert torch.equal(check_source(plain(inputs=huge)).inputs, huge)


def test_a_source_is_checked_once_and_again_after_a_change() -> None:
    checked = check_source(plain())
    assert check_source(checked) is checked
    with pytest.raises(UsageError, match="test_labels"):
        check_source(checked._replace(test_labels=checked.test_labels + 1))


def test_the_second_check_costs_nothing() -> None:
    """Every population of a study checks: as fast for a thousand times the samples."""
    source = check_source(plain())
    inputs, test_inputs = torch.zeros(60_000, 500), source.inputs[:, :1].expand(-1, 500)
    large = check_source(Source(inputs, torch.arange(60_000) % 3, test_inputs, source.labels, 3))
    start = time.perf_counter()
    for _ in range(100):
        check_source(large)
    assert time.perf_counter() - start < 0.1


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (plain().labels.sort().values, "sorted"),
        (plain().labels.sort(descending=True).values, "sorted"),
        (torch.cat([torch.arange(32) % 2, torch.full((8,), 2)]), "class 2"),
        (plain().labels, None),
        (torch.arange(40) // 20 % 2 * 2 - (torch.arange(40) == 39).long() + (torch.arange(40) == 0).long(), None),
    ],
)
def test_a_split_of_sorted_labels_is_warned_of_once(
    labels: Tensor, words: str | None, logged: Callable[[], list[str]]
) -> None:
    source = check_source(plain(labels=labels))
    check_fit(Clouds(), source)
    before = logged()
    for _ in range(2):
        trained(source, Clouds(split="last"))
    new = [text for text in logged() if text not in before]
    assert len(new) == (words is not None)
    assert all("split='last'" in text and str(words) in text for text in new)


def test_a_class_without_samples_is_warned_of(logged: Callable[[], list[str]]) -> None:
    check_source(plain())
    assert not logged()
    check_source(plain(classes=5))
    (text,) = logged()
    assert "class 3" in text and "classes is 5" in text


def test_confusions_with_a_class_that_does_not_exist() -> None:
    @dataclass(frozen=True)
    class Mistaken(Clouds):
        confusions: ClassVar[Mapping[int, int]] = {0: 1, 2: 7}

    with pytest.raises(UsageError, match=r"confusions .*class 2 to 7, .*classes is 3"):
        trained(plain(), Mistaken(label_noise=0.5, noise="asymmetric"))
    trained(plain(), Mistaken(label_noise=0.5))  # symmetric noise does not use them


@dataclass(frozen=True)
class Unseeded(Dataset):
    seed: int | None = None

    def load(self) -> Source:
        return plain(inputs=plain().inputs + np.random.default_rng(self.seed).normal())


def test_a_load_with_different_samples_in_every_call_is_refused() -> None:
    with pytest.raises(UsageError, match="every call"):
        load_source(Unseeded())
    assert torch.equal(load_source(Unseeded(seed=3)).inputs, load_source(Unseeded(seed=3)).inputs)
