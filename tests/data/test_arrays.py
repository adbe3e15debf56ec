"""Arrays, torch data sets and those of HuggingFace as data of a study: types, tasks, content, and what is refused."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from hpo import MLP, Arrays, Configuration, FromHub, FromTorch, Study
from hpo.data import load_source
from hpo.errors import UsageError
from hpo.study.definition import describe, digest
from hpo.user_code.messages import warn_once
from hpo.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

X = np.random.default_rng(0).normal(size=(40, 3)).round(2)
CLASSES = np.arange(40) % 3
TEST = (X[:8], CLASSES[:8])


def study_of(data: Any, model: Callable[[], nn.Module] | None = None) -> Study:
    configurations = (Configuration("A"), Configuration("B", optimizer="sgd"))
    return Study(data=data, model=model or MLP((3, 4, 3)), baseline="A", configurations=configurations, batch_size=8)


SAME: dict[str, Callable[[], Arrays]] = {
    "float64": lambda: Arrays(X, CLASSES, test=TEST),
    "float32": lambda: Arrays(X.astype("float32"), CLASSES, test=(X[:8].astype("float32"), CLASSES[:8])),
    "torch": lambda: Arrays(*map(torch.from_numpy, (X, CLASSES)), test=tuple(map(torch.from_numpy, TEST))),
    "with a gradient": lambda: Arrays(torch.from_numpy(X).requires_grad_(), CLASSES, test=TEST),
    "pandas": lambda: Arrays(pd.DataFrame(X), pd.Series(CLASSES), test=(pd.DataFrame(X[:8]), pd.Series(CLASSES[:8]))),
    "nullable pandas": lambda: Arrays(
        pd.DataFrame(X).convert_dtypes(), pd.Series(CLASSES, dtype="Int8"), test=(pd.DataFrame(X[:8]), CLASSES[:8])
    ),
    "lists": lambda: Arrays(X.tolist(), CLASSES.tolist(), test=(X[:8].tolist(), CLASSES[:8].tolist())),
    "uint8 labels": lambda: Arrays(X, CLASSES.astype("uint8"), test=(X[:8], CLASSES[:8].astype("int16"))),
    "a column": lambda: Arrays(X, CLASSES[:, None], test=(X[:8], CLASSES[:8, None])),
    "float labels": lambda: Arrays(
        X, CLASSES.astype(float), test=(X[:8], CLASSES[:8].astype(float)), task="classification"
    ),
    "of torch": lambda: FromTorch(  # type: ignore[dict-item]
        TensorDataset(*map(torch.from_numpy, (X, CLASSES))), TensorDataset(*map(torch.from_numpy, TEST))
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_samples_in_any_type_are_the_same_data(case: str) -> None:
    data, plain = SAME[case](), SAME["float64"]()
    assert data.content == plain.content and data.task == "classification" and data.classes == 3
    source, expected = load_source(data), load_source(plain)
    assert source.inputs.dtype == torch.float32 and source.labels.dtype == torch.int64
    assert all(torch.equal(*pair) for pair in zip(source[:4], expected[:4], strict=True))
    assert (data.features, data.outputs) == (3, 3)


@pytest.mark.parametrize("kind", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_whole_numbers_become_floats_only_for_networks_that_need_them(kind: str) -> None:
    numbers = (np.arange(120).reshape(40, 3) % 2).astype(kind)
    data = Arrays(numbers, CLASSES, test=0.2)
    trainer = Trainer(study_of(data), "cpu")
    assert not load_source(data).inputs.is_floating_point()
    assert trainer.recipe(trainer.study.configurations[0], rerun=True).source.inputs.dtype == torch.float32
    if kind == "int64":
        words = lambda: nn.Sequential(nn.Embedding(2, 4), nn.Flatten(), nn.Linear(12, 3))  # noqa: E731
        trainer = Trainer(study_of(data, words), "cpu")
        assert trainer.recipe(trainer.study.configurations[0], rerun=True).source.inputs.dtype == torch.int64
    assert np.isfinite(trainer.try_once("A", trainer.recipes.setting_to_try("A", {}), 0).final["validation_loss"])


@pytest.mark.parametrize("kind", [np.float16, np.float64, torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_every_precision_become_float32(kind: Any) -> None:
    inputs = X.astype(kind) if isinstance(kind, type) else torch.from_numpy(X).to(kind)
    assert load_source(Arrays(inputs, CLASSES)).inputs.dtype == torch.float32


TASKS: dict[str, tuple[Any, str, int]] = {
    "floats": (X[:, 0], "regression", 1),
    "rows of floats": (X[:, :2], "regression", 2),
    "whole numbers": (CLASSES, "classification", 3),
    "truth values": (X[:, 0] > 0, "classification", 2),
    "zeros and ones": ((X > 0).astype(int), "multilabel", 3),
    "rows of truth values": (X > 0, "multilabel", 3),
    "zeros and ones as floats": ((X > 0).astype(float), "multilabel", 3),
    "rows of whole numbers": (np.arange(120).reshape(40, 3) % 5, "tokens", 5),
}


@pytest.mark.parametrize("case", TASKS)
def test_the_labels_suggest_the_task(case: str) -> None:
    labels, task, outputs = TASKS[case]
    data = Arrays(X, labels)
    assert (data.task, data.outputs) == (task, outputs)
    assert describe(study_of(data, lambda: nn.Linear(3, outputs))).get("task", "classification") == task


def test_a_task_can_be_given() -> None:
    assert Arrays(X, CLASSES, task="regression").task == "regression"
    padded = np.where(np.arange(120).reshape(40, 3) % 4 == 0, 0, np.arange(120).reshape(40, 3) % 5)
    source = load_source(Arrays(np.arange(120).reshape(40, 3), padded, ignore_index=0))
    assert (source.labels == -100).sum() + (source.test_labels == -100).sum() == (padded == 0).sum()


def test_the_label_of_tokens_without_a_target_is_part_of_the_definition() -> None:
    tokens = np.arange(120).reshape(40, 3)
    for given, label in (({"ignore_index": 0}, 0), ({}, -100)):
        described = describe(study_of(Arrays(tokens, tokens % 5, **given), lambda: nn.Linear(3, 5)))["data"]
        assert described["ignore_index"] == label
    assert "ignore_index" not in describe(study_of(Arrays(X, CLASSES)))["data"]


def test_a_fraction_of_the_samples_is_the_test_set_once_and_for_all() -> None:
    one, other = load_source(Arrays(X, CLASSES, test=0.25)), load_source(Arrays(X, CLASSES, test=0.25))
    assert (len(one.labels), len(one.test_labels)) == (30, 10) and torch.equal(one.test_inputs, other.test_inputs)
    rows = torch.cat([one.inputs, one.test_inputs]).sort(0).values
    torch.testing.assert_close(rows, torch.from_numpy(X).float().sort(0).values)
    frame = pd.DataFrame(X, index=np.arange(40)[::-1])
    assert load_source(Arrays(frame, pd.Series(CLASSES), test=0.25)).inputs.equal(one.inputs), "rows, not index labels"


def changed(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[-1, -1] = value
    return array


def test_the_content_is_part_of_the_definition() -> None:
    plain = study_of(Arrays(X, CLASSES))
    assert describe(plain)["data"]["content"] == plain.data.content and len(plain.data.content) == 16
    assert digest(describe(study_of(Arrays(X.copy(), CLASSES.copy())))) == digest(describe(plain))
    for other in (Arrays(changed(X, 9), CLASSES), Arrays(X, (CLASSES + 1) % 3), Arrays(X, CLASSES, test=0.3)):
        assert digest(describe(study_of(other))) != digest(describe(plain))
    assert "0.1" not in repr(plain.data) and len(repr(plain.data)) < 300, "no samples"


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Arrays(changed(X, np.nan), CLASSES, test=TEST), r"inputs\[39\] contains NaN or infinity \(1 of 40"),
    (lambda: Arrays(X, changed(X, np.inf), test=(X, X)), r"labels\[39\] contains NaN or infinity"),
    (lambda: Arrays(changed(X, np.nan), CLASSES), r"inputs\[39\] contains NaN or infinity \(1 of 40"),
    (lambda: Arrays(pd.DataFrame({"a": [1, None] * 20}, dtype="Int64"), CLASSES), r"inputs\[1\] contains NaN"),
    (lambda: Arrays(X, np.where(np.arange(40) == 33, -1, CLASSES)), r"labels\[33\] is -1 \(1 of 40"),
    (lambda: FromTorch([(x, y) for x, y in zip(changed(X, np.nan), CLASSES, strict=True)]), r"inputs\[39\] contains"),
    (lambda: Arrays(X, CLASSES, test=X), r"^Arrays: test is a ndarray; give .* or \(test_inputs, test_labels\)$"),
    (lambda: Arrays(X, pd.Series(["cat", "dog"] * 20, dtype="category")), "labels are categories; .*labels.cat.codes"),
    (lambda: FromHub("mnist"), "the data set is 'mnist'; give a loaded one"),
    (lambda: FromTorch(DataLoader([(1, 0)])), "is a DataLoader; give its data set, loader.dataset"),  # type: ignore[arg-type]
    (lambda: Arrays(X, CLASSES[:-1]), "40 inputs and 39 labels"),
    (lambda: Arrays(X, CLASSES, test=(X, CLASSES[:-1])), "40 test_inputs and 39 test_labels"),
    (lambda: Arrays(X, CLASSES, test=(X[:, :2], CLASSES)), r"\(3,\) and one of test_inputs shape \(2,\)"),
    (lambda: Arrays(X.astype(object), CLASSES), r"inputs have the type object.*astype\('float32'\)"),
    (lambda: Arrays([[1.0], [1.0, 2.0]], [0, 1], test=TEST), "different lengths; pad"),
    (lambda: Arrays(X, np.array(["cat", "dog"] * 20)), r"labels are text such as 'cat'.*numpy.unique\(labels"),
    (lambda: Arrays(np.array([["red"]] * 40), CLASSES), "inputs contain text such as 'red'.*hpo.Table"),
    (lambda: Arrays(pd.DataFrame({"a": X[:, 0], "city": "Bonn"}), CLASSES), "column 'city' of inputs is no number"),
    (lambda: Arrays(X, (X[:, 0] > 0).astype(float)), "values 0 and 1 only; give task="),
    (lambda: Arrays(X, X[:, 0], task="classification"), "the task is classification; give task='regression'"),
    (lambda: Arrays(X, CLASSES, task="clustering"), "task is 'clustering'; give one of classification"),
    (lambda: Arrays(X, CLASSES - 1), r"is -1 .* remove samples without a class"),
    (lambda: Arrays(X, CLASSES, test=1.5), "test is 1.5; give a fraction"),
    (lambda: Arrays(X, CLASSES, test=0.001), "none of 40 samples"),
    (lambda: Arrays(X, CLASSES, test=(X,)), "test has 1 entries"),
    (lambda: Arrays(X, X[:, 0], label_noise=0.2), "label_noise is 0.2, but it redraws classes"),
    (lambda: FromTorch([(1, 2, 3)], 0.5), r"training\[0\] is a tuple; give pairs"),
    (lambda: FromTorch([(X[0], 0), (X[0, :2], 1)], 0.5), r"training\[0\] and training\[1\] have shapes \(3,\) and"),
    (lambda: FromTorch([(X[0], "cat")], 0.5), r"training\[0\]\[1\] is 'cat'; convert"),
    (lambda: FromTorch(Stream(), 0.5), "give a map-style data set"),
]


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(("make", "words"), WRONG, ids=[words for _, words in WRONG])
def test_unusable_samples_are_refused_in_one_sentence(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Arrays(X, CLASSES + 1), ["class 0", "labels - 1"]),
        (lambda: Arrays(X, CLASSES + 1990), ["class 0, 1, 2, 3, 4 or 1985 more", "task='regression'"]),
        (lambda: Arrays(X, CLASSES * 2), ["class 1 or 3", "return_inverse"]),
        (lambda: Arrays(X, CLASSES, test=(X, CLASSES + 3)), ["class 3, 4 or 5"]),
    ],
)
def test_classes_without_labels_give_a_warning(make: Any, words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    make()
    [text] = [record.getMessage() for record in caplog.records]
    assert all(word in text for word in ["warning", *words]), text


def test_random_transforms_of_a_torch_data_set_are_the_same_in_every_process() -> None:
    class Noisy(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> tuple[Tensor, float]:
            return torch.randn(3), float(np.random.randn())  # noqa: NPY002

    with torch.random.fork_rng(devices=[]):
        one, other = FromTorch(Noisy(), 0.2), FromTorch(Noisy(), 0.2)
    assert one.content == other.content and one.task == "regression"


class Streamed(IterableDataset):  # type: ignore[type-arg]
    """As a streamed split of HuggingFace's `datasets`."""

    column_names = ("ids", "label")

    def __iter__(self) -> Any:
        return iter(())


class Split:
    """What `FromHub` uses of a split of HuggingFace's `datasets`."""

    def __init__(self, **columns: Any) -> None:
        self.columns = columns
        self.column_names = list(columns)

    def __len__(self) -> int:
        return len(self.columns["label"])

    def with_format(self, _: str) -> "Split":
        return self

    def __getitem__(self, _: slice) -> dict[str, Any]:
        return self.columns


def hub(**more: Any) -> dict[str, Split]:
    return {"train": Split(ids=X, label=CLASSES, **more), "test": Split(ids=X[:8], label=CLASSES[:8], **more)}


def test_splits_and_columns_of_the_hub() -> None:
    plain = SAME["float64"]()
    assert FromHub(hub()).content == FromHub(hub(text=["a"] * 40), inputs="ids").content == plain.content
    several = Split(a=X[:, 0], b=X[:, 1], c=X[:, 2], label=CLASSES)
    assert torch.equal(load_source(FromHub(several)).inputs, load_source(Arrays(X, CLASSES)).inputs)
    for make, words in (
        (lambda: FromHub(hub(), target="y"), "no column 'y'; the columns are ids, label"),
        (lambda: FromHub(hub(text=["a"] * 40), inputs="text"), "'text' is no array of numbers; tokenise it"),
        (lambda: FromHub(hub(text=["a"] * 40)), "'text' is no array"),
        (lambda: FromHub(hub(text=["a"] * 40), inputs="ids", target="text"), r"'text' .*class_encode_column\('text'\)"),
        (lambda: FromHub({"train": Streamed()}), "streamed .*without streaming=True"),
        (lambda: FromHub(hub(), train="all"), "no split 'all'; it has 'train', 'test'"),
        (lambda: FromHub(hub(other=X[:, 0])), "column 'ids' has several numbers"),
    ):
        with pytest.raises(UsageError, match=words):
            make()


def test_data_sets_of_the_hub_as_they_are() -> None:
    datasets = pytest.importorskip("datasets", reason="HuggingFace's datasets is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = datasets.Features(
            {"x": datasets.Sequence(datasets.Value("float64"), length=3), "label": datasets.ClassLabel(num_classes=3)}
        )
        parts = {
            name: datasets.Dataset.from_dict({"x": x.tolist(), "label": y.tolist()}, features=features)
            for name, (x, y) in {"train": (X, CLASSES), "test": TEST}.items()
        }
        data = FromHub(datasets.DatasetDict(parts))
        tokens = datasets.Dataset.from_dict({"ids": [[1, 2], [3, 4]] * 10, "label": [0, 1] * 10})
    assert data.content == SAME["float64"]().content
    assert load_source(FromHub(tokens)).inputs.dtype == torch.int64
