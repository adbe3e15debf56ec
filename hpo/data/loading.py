"""Loads a data set: its samples become tensors for training, or one sentence says what is wrong with them."""

import operator
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo.data.identity import identify
from hpo.data.source import Dataset, Source, seeded_load
from hpo.errors import UsageError, require
from hpo.user_code.messages import describe_value, warn_once
from hpo.user_code.ownership import is_user_code

STORAGE_TYPES = (torch.uint16, torch.uint32, torch.uint64)  # PyTorch stores these and computes almost nothing with them
MAX_SECONDS_TO_REPEAT = 1.0  # a slower `load` is not called a second time


def load_source(dataset: Dataset) -> Source:
    """Calls `dataset.load()` with all global generators seeded, and checks what it returns.

    A fast `load` in user code is called twice, to see whether it returns the same samples.

    Raises:
        UsageError: the samples cannot be used for training (see `check_source`), or differ between two calls.
    """
    start = time.monotonic()
    source = _load(dataset)
    fast = time.monotonic() - start < MAX_SECONDS_TO_REPEAT
    if fast and is_user_code(type(dataset)) and identify(_load(dataset)) != identify(source):
        raise UsageError(
            "data: load() returns different samples in every call; use the global functions of torch, numpy or random, "
            "which hpo seeds, instead of its own generator, seed or clock"
        )
    return source


def _load(dataset: Dataset) -> Source:
    with seeded_load():  # the data set need not be a subclass of Dataset
        return check_source(dataset.load())


def check_source(source: Source) -> Source:
    """Converts a source to what `Source` describes; a source that was returned from here is returned at once.

    Numpy arrays and lists become tensors. Numpy's float64 becomes PyTorch's default type, as in `torch.tensor` of a
    list, unless that type is too coarse for the values of a column. Labels of any integer type, or in a column [M, 1],
    become int64 [M].

    Raises:
        UsageError: anything else is wrong; the sentence names the field, and the sample if it is about one.
    """
    if isinstance(source, _Checked):
        return source
    if not isinstance(source, Source):
        raise UsageError(f"data: load() returns {describe_value(source)}; return an hpo.Source")
    classes = _class_count(source.classes)
    inputs, test_inputs = _inputs(source)
    labels, test_labels = (_labels(name, getattr(source, name), classes) for name in ("labels", "test_labels"))
    _check_sizes(inputs, labels, test_inputs, test_labels)
    unused = torch.bincount(labels, minlength=classes).eq(0).nonzero().flatten()
    if len(unused):
        warn_once(
            f"data: no label is class {int(unused[0])}, but classes is {classes}; label noise and the accuracy of "
            "guessing count every class"
        )
    return _Checked(inputs, labels, test_inputs, test_labels, classes)


def check_fit(dataset: Dataset, source: Source) -> None:
    """Checks that a data set's settings suit its samples; warns if the last samples have other classes than the rest.

    Raises:
        UsageError: asymmetric noise changes labels to a class that does not exist.
    """
    for label, other in dataset.confusions.items() if dataset.noise == "asymmetric" else ():
        if label < source.classes <= other or other < 0:
            raise UsageError(
                f"data: confusions map class {label} to {other}, but classes is {source.classes}; use classes from 0 "
                f"to {source.classes - 1}"
            )
    if dataset.split != "last":
        return
    labels = source.labels
    training, validation = labels.tensor_split([len(labels) - round(dataset.validation * len(labels))])
    steps = labels.diff()
    in_order = bool(steps.any()) and (bool((steps >= 0).all()) or bool((steps <= 0).all()))
    unseen = validation[~torch.isin(validation, training)]
    if in_order or len(unseen):
        reason = "the labels are sorted" if in_order else f"class {int(unseen[0])} only occurs there"
        warn_once(
            f"data: split='last' uses the last {dataset.validation:.0%} of the samples for validation, and {reason}, "
            "so that training and validation have different classes; shuffle them in load(), or use split='random'"
        )


class _Checked(Source):
    """A source that is as `Source` describes it; `_replace` returns one that is unchecked."""

    __slots__ = ()

    def _replace(self, /, **changes: Any) -> Source:  # type: ignore[override]
        return Source(*self)._replace(**changes)


def _check_sizes(inputs: Tensor, labels: Tensor, test_inputs: Tensor, test_labels: Tensor) -> None:
    """Raises UsageError unless every input has a label, and both parts have samples of the same shape and type."""
    for part, samples, their_labels in (("", inputs, labels), ("test_", test_inputs, test_labels)):
        if len(samples) != len(their_labels):
            raise UsageError(
                f"data: there are {len(samples)} {part}inputs and {len(their_labels)} {part}labels; return one label "
                "per input"
            )
        if not len(samples):
            raise UsageError(f"data: {part}inputs has no samples; return at least one")
    for kind, one, other in (
        ("shape", tuple(inputs.shape[1:]), tuple(test_inputs.shape[1:])),
        ("type", _type_name(inputs), _type_name(test_inputs)),
    ):
        if one != other:
            raise UsageError(
                f"data: a sample of inputs has {kind} {one} and one of test_inputs {kind} {other}; use the same"
            )


def _class_count(given: Any) -> int:
    try:
        count = -1 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        count = -1
    require(count >= 2, "data: classes", given, "the number of classes, a whole number of at least 2")
    return count


def _inputs(source: Source) -> list[Tensor]:
    given = {name: getattr(source, name) for name in ("inputs", "test_inputs")}
    tensors = {name: _tensor(name, value) for name, value in given.items()}
    doubles = {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.dtype == torch.float64 and not isinstance(given[name], Tensor)
    }
    if not any(map(_needs_double, doubles.values())):
        tensors |= {name: tensor.to(torch.get_default_dtype()) for name, tensor in doubles.items()}
    return [_finite(name, tensor) for name, tensor in tensors.items()]


def _needs_double(inputs: Tensor) -> bool:
    """Whether PyTorch's default type is too coarse or too small for a column, such as seconds since 1970."""
    if not len(inputs):
        return False
    columns = inputs.reshape(len(inputs), -1)
    error = (columns.to(torch.get_default_dtype()).double() - columns).abs().amax(0)
    spread, size = columns.std(0, correction=0), columns.abs().amax(0)
    return bool(((error > 1e-3 * spread) & (spread > 1e-9 * size)).any())


def _finite(name: str, inputs: Tensor) -> Tensor:
    inputs = inputs.long() if inputs.dtype in STORAGE_TYPES else inputs
    # A sum that is finite takes a tenth of the time, and shows that all values are.
    if (inputs.is_floating_point() or inputs.is_complex()) and not inputs.sum().isfinite():
        rows = ~inputs.reshape(len(inputs), -1).isfinite().all(1)
        if rows.any():
            raise UsageError(
                f"data: {name}[{int(rows.nonzero()[0])}] contains NaN or infinity ({_share(rows)}); replace it in "
                "load(), or remove the sample"
            )
    return inputs


def _labels(name: str, given: Any, classes: int) -> Tensor:
    labels = _tensor(name, given).cpu()
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dim() != 1:
        raise UsageError(
            f"data: {name} have shape {tuple(labels.shape)}; return one class per sample, [M], such as "
            "labels.argmax(1) for one-hot labels"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise UsageError(
            f"data: {name} are {_type_name(labels)}, but regression is not supported yet; return integer class "
            "numbers, such as labels.long()"
        )
    labels = labels.long()
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        index = int(wrong.nonzero()[0])
        raise UsageError(
            f"data: {name}[{index}] is {int(labels[index])} ({_share(wrong)} outside 0 to {classes - 1}, as classes "
            f"is {classes}); {_correction(labels, classes)}"
        )
    return labels


def _correction(labels: Tensor, classes: int) -> str:
    """Advice for labels outside 0 … classes − 1."""
    low, high = int(labels.min()), int(labels.max())
    if low == 1 and high == classes:
        return "count the classes from 0, as in labels - 1"
    if (low, high, classes) == (-1, 1, 2):
        return "count the classes from 0, as in (labels + 1) // 2"
    if low < 0:
        return "remove samples without a class in load()"
    return f"set classes={high + 1}, or correct the labels"


def _tensor(name: str, given: Any) -> Tensor:
    """A dense tensor of the values; those of arrays and lists are copied only where needed."""
    if isinstance(given, Tensor):
        if given.layout != torch.strided or given.is_nested:
            raise UsageError(f"data: {name} is a sparse or nested tensor; return a dense one")
        tensor = given.detach()
    else:
        try:
            filled = given.filled(np.nan) if isinstance(given, np.ma.MaskedArray) else given
            array = np.require(filled, requirements=["C", "W"])
            tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        except (TypeError, ValueError, RuntimeError):
            raise UsageError(
                f"data: {name} is {describe_value(given)}, which cannot become a tensor; {_conversion(name, given)}"
            ) from None
    if not tensor.dim():
        raise UsageError(f"data: {name} is a single number; return one per sample, along the first axis")
    return tensor


def _conversion(name: str, given: Any) -> str:
    """Advice for a value that cannot become a tensor."""
    if not isinstance(given, Iterable) or isinstance(given, Mapping | Iterator):
        return "return a tensor or an array"
    if name.endswith("labels"):
        return f"return class numbers, such as numpy.unique({name}, return_inverse=True)[1]"
    return "return only numbers, equally many for every sample (pad shorter samples)"


def _share(rows: Tensor) -> str:
    return f"{int(rows.sum())} of {len(rows)} samples"


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
