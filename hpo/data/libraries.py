"""FromTorch and FromHub: the samples of other libraries' data sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from hpo.data.arrays import HIDDEN
from hpo.data.given import Given
from hpo.data.held_out import check_share
from hpo.data.source import seeded_load
from hpo.errors import UsageError
from hpo.user_code.messages import describe_value


@dataclass(frozen=True, eq=False)
class FromTorch(Given):
    """A map-style `torch.utils.data.Dataset` of (input, target) pairs, such as those of torchvision.

    Every item is read once, with seeded generators: a random transform gives one fixed variation of each sample.

    Attributes:
        training: the data set that training and validation are drawn from.
        test: the test set, or a fraction of the samples that is drawn once, the same for all seeds.
    """

    training: Any = field(repr=False, metadata=HIDDEN)
    test: Any = field(default=0.2, repr=False, metadata=HIDDEN)

    def __post_init__(self) -> None:
        with seeded_load():
            inputs, labels = _read_items("training", self.training)
            if isinstance(self.test, float | int):
                test: Any = check_share("FromTorch", self.test, "the test set")
            else:
                test = _read_items("test", self.test)
        self._keep(inputs, labels, test)
        super().__post_init__()


@dataclass(frozen=True, eq=False)
class FromHub(Given):
    """A loaded data set of HuggingFace's `datasets`: a `DatasetDict` with a training and a test split, or one split.

    Attributes:
        dataset: the loaded data set. inputs: the column of the inputs, or several columns of numbers; by default all
            columns but the target. target: the column of the labels.
        train: the split that training and validation are drawn from. test: the test split, or a fraction of the
            samples that is drawn once; by default the split "test" if there is one, else 0.2.
    """

    dataset: Any = field(repr=False, metadata=HIDDEN)
    inputs: Any = ()
    target: str = "label"
    train: str = "train"
    test: Any = None

    def __post_init__(self) -> None:
        _check_hub(self.dataset)
        splits = self.dataset if isinstance(self.dataset, Mapping) else {self.train: self.dataset}
        test = self.test or ("test" if "test" in splits else 0.2)
        inputs, labels = _read_columns(self._split(splits, self.train), self.inputs, self.target)
        if isinstance(test, str):
            given: Any = _read_columns(self._split(splits, test), self.inputs, self.target)
        else:
            given = check_share("FromHub", test, "the name of a split")
        kind = getattr(self._split(splits, self.train), "features", {}).get(self.target)
        object.__setattr__(self, "classes", self.classes or getattr(kind, "num_classes", None))
        names = [self.inputs] if isinstance(self.inputs, str) else list(self.inputs)
        object.__setattr__(self, "inputs", names)
        object.__setattr__(self, "test", test)
        self._keep(inputs, labels, given)
        super().__post_init__()

    def _split(self, splits: Mapping[str, Any], name: str) -> Any:
        if name not in splits:
            raise UsageError(f"FromHub: the data set has no split {name!r}; it has {', '.join(map(repr, splits))}")
        return splits[name]


def _check_hub(dataset: Any) -> None:
    """Raises UsageError unless this is a loaded data set, or a mapping of loaded splits."""
    for part in dataset.values() if isinstance(dataset, Mapping) else [dataset]:
        if not hasattr(part, "column_names"):
            raise UsageError(
                f"FromHub: the data set is {describe_value(part)}; give a loaded one, such as "
                "datasets.load_dataset('mnist')"
            )
        if not hasattr(part, "__len__"):
            raise UsageError("FromHub: the data set is streamed and has no length; load it without streaming=True")


def _read_items(name: str, dataset: Any) -> tuple[Any, Any]:
    """All inputs and targets of a map-style data set, stacked."""
    if isinstance(dataset, DataLoader):
        raise UsageError(f"FromTorch: {name} is a DataLoader; give its data set, loader.dataset")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise UsageError(
            f"FromTorch: {name} is {describe_value(dataset)} without a length or without items; give a map-style data "
            "set, or collect its samples in arrays and use hpo.Arrays"
        )
    inputs, targets = [], []
    for index in range(len(dataset)):
        item = dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UsageError(f"FromTorch: {name}[{index}] is {describe_value(item)}; give pairs (input, target)")
        inputs.append(_numbers(f"{name}[{index}][0]", item[0]))
        targets.append(_numbers(f"{name}[{index}][1]", item[1]))
    return _stack(name, "inputs", inputs), _stack(name, "targets", targets)


def _numbers(where: str, value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if type(value).__module__.startswith("PIL."):
        raise UsageError(
            f"FromTorch: {where} is an image of PIL; give the data set a transform to tensors, such as "
            "torchvision.transforms.ToTensor()"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise UsageError(f"FromTorch: {where} is {describe_value(value)}; convert it to numbers in the data set")
    return torch.as_tensor(array)


def _stack(name: str, kind: str, values: list[torch.Tensor]) -> torch.Tensor:
    for index, value in enumerate(values):
        if value.shape != values[0].shape:
            raise UsageError(
                f"FromTorch: the {kind} {name}[0] and {name}[{index}] have shapes {tuple(values[0].shape)} and "
                f"{tuple(value.shape)}; bring all samples to one shape, by cropping, resizing or padding"
            )
    return torch.stack(values) if values else torch.zeros(0)


def _read_columns(split: Any, inputs: Any, target: str) -> tuple[Any, Any]:
    """The inputs and labels of a split, by its columns."""
    names = list(split.column_names)
    chosen = [inputs] if isinstance(inputs, str) else list(inputs) or [name for name in names if name != target]
    for name in (target, *chosen):
        if name not in names:
            raise UsageError(f"FromHub: there is no column {name!r}; the columns are {', '.join(names)}")
    columns = {name: _column(split, name, name == target) for name in (*chosen, target)}
    values = [columns[name] for name in chosen]
    if len(values) > 1:
        for name, value in zip(chosen, values, strict=True):
            if value.ndim != 1:
                raise UsageError(f"FromHub: column {name!r} has several numbers per sample; give inputs={name!r} only")
    return values[0] if len(values) == 1 else np.stack(values, 1), columns[target]


def _column(split: Any, name: str, is_target: bool) -> Any:
    try:
        values = np.asarray(split.with_format("numpy")[:][name])
    except ValueError:
        values = np.asarray([], dtype=object)
    if values.dtype.kind in "biuf":
        return values
    if values.dtype.kind in "US" and is_target:
        advice = f"number its classes with dataset.class_encode_column({name!r}), or name another column as target"
    elif values.dtype.kind in "US":
        advice = "tokenise it with dataset.map(...) and give inputs='input_ids', or name other columns as inputs"
    else:
        advice = "bring all samples to one shape with dataset.map(...), or name other columns"
    raise UsageError(f"FromHub: column {name!r} is no array of numbers; {advice}")
