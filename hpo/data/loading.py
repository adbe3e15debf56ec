"""Loads a data set: its samples become tensors for training, or one sentence says what is wrong with them."""

import time
from typing import Any

import torch
from torch import Tensor

from hpo.data.identity import identify
from hpo.data.source import Dataset, Inputs, Source, seeded_load
from hpo.data.targets import check_targets
from hpo.data.tensors import as_default_floats, as_tensor, finite, type_name
from hpo.errors import UsageError
from hpo.tasks import CLASSIFICATION, TASKS
from hpo.user_code.messages import describe_value, warn_once
from hpo.user_code.ownership import is_user_code

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
        return check_source(dataset.load(), getattr(dataset, "task", CLASSIFICATION.name))


def check_source(source: Source, task: str = CLASSIFICATION.name) -> Source:
    """Converts a source to what `Source` describes; a source that was returned from here is returned at once.

    Numpy arrays and lists become tensors. Numpy's float64 becomes PyTorch's default type, as in `torch.tensor` of a
    list, unless that type is too coarse for the values of a column. Class labels of any integer type, or in a column
    [M, 1], become int64 [M].

    Args:
        task: that of the data set.

    Raises:
        UsageError: anything else is wrong; the sentence names the field, and the sample if it is about one.
    """
    if isinstance(source, _Checked):
        return source
    if not isinstance(source, Source):
        raise UsageError(f"data: load() returns {describe_value(source)}; return an hpo.Source")
    inputs, test_inputs = _inputs(source)
    labels, test_labels, classes = check_targets(source, TASKS[task])
    _check_sizes(inputs, labels, test_inputs, test_labels)
    return _Checked(inputs, labels, test_inputs, test_labels, classes)


def check_fit(dataset: Dataset, source: Source) -> None:
    """Checks that a data set's settings suit its samples; warns if the last samples have other classes than the rest.

    Raises:
        UsageError: asymmetric noise changes labels to a class that does not exist.
    """
    for label, other in dataset.confusions.items() if dataset.noise == "asymmetric" else ():
        assert source.classes is not None
        if label < source.classes <= other or other < 0:
            raise UsageError(
                f"data: confusions map class {label} to {other}, but classes is {source.classes}; use classes from 0 "
                f"to {source.classes - 1}"
            )
    if dataset.split != "last" or source.labels.dim() != 1 or source.labels.is_floating_point():
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


def _check_sizes(inputs: Inputs, labels: Tensor, test_inputs: Inputs, test_labels: Tensor) -> None:
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
        ("type", type_name(inputs), type_name(test_inputs)),
    ):
        if one != other:
            raise UsageError(
                f"data: a sample of inputs has {kind} {one} and one of test_inputs {kind} {other}; use the same"
            )


def _inputs(source: Source) -> list[Inputs]:
    given = {name: getattr(source, name) for name in ("inputs", "test_inputs")}
    if source.is_streamed:
        return list(given.values())
    tensors = as_default_floats(given, {name: as_tensor(name, value) for name, value in given.items()})
    return [finite(name, tensor) for name, tensor in tensors.items()]
