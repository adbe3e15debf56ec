"""Loading: a data set's samples as tensors that training takes, or one sentence that says what is wrong with them."""

import operator
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo.data.identity import identify
from hpo.data.source import Dataset, Source, seeded_load
from hpo.errors import UsageError
from hpo.user_code.messages import describe_value, warn_once
from hpo.user_code.ownership import is_user_code

# PyTorch can store these and do next to nothing with them.
STORED_ONLY = (torch.uint16, torch.uint32, torch.uint64)
DOUBLE = torch.float64
QUICK = 1.0  # seconds that a `load` may take to be called twice


def load_source(dataset: Dataset) -> Source:
    """Calls `dataset.load()`, with all global generators seeded as `Dataset` does it, and checks what it returns.

    Raises:
        UsageError: it cannot be trained on; see `check_source`. Or a `load` of the user's gives other samples when
            it is called again, which is tried where it takes no time.
    """
    began = time.monotonic()
    source = _load(dataset)
    if (
        time.monotonic() - began < QUICK
        and is_user_code(type(dataset))
        and identify(_load(dataset)) != identify(source)
    ):
        raise UsageError(
            "data: load() gives other samples each time; draw by the global functions of torch, numpy or random, which "
            "hpo seeds, and not by a generator, a seed or a clock of its own"
        )
    return source


def _load(dataset: Dataset) -> Source:
    with seeded_load():  # it need not be a subclass of Dataset
        return check_source(dataset.load())


def check_source(source: Source) -> Source:
    """The source with everything as `Source` describes it; one that comes from here is returned at once.

    Numpy arrays and lists become tensors, and numpy's float64 PyTorch's default type, as in `torch.tensor` of a list,
    unless that is too coarse to tell the values of a column apart.
    Class numbers of any integer type, or in a column [M, 1], become int64 [M].

    Raises:
        UsageError: anything else is not as it should be; the sentence names the field, and the sample where it is one.
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
            f"data: no sample of labels is of class {int(unused[0])}, and classes is {classes}; label noise and the "
            "accuracy of guessing count every class"
        )
    return _Checked(inputs, labels, test_inputs, test_labels, classes)


def check_fit(dataset: Dataset, source: Source) -> None:
    """Whether a data set's settings suit its samples; warns where the last ones are of other classes than the rest.

    Raises:
        UsageError: asymmetric noise changes labels to a class that there is not.
    """
    mistaken = dataset.confusions.items() if dataset.noise == "asymmetric" else ()
    for label, other in mistaken:
        if label < source.classes <= other or other < 0:
            raise UsageError(
                f"data: confusions take class {label} for {other}, and classes is {source.classes}; name those from 0 "
                f"to {source.classes - 1}"
            )
    if dataset.split != "last":
        return
    labels = source.labels
    kept = len(labels) - round(dataset.validation * len(labels))
    steps = labels.diff()
    in_order = bool(steps.any()) and (bool((steps >= 0).all()) or bool((steps <= 0).all()))
    unseen = ~torch.isin(labels[kept:], labels[:kept])
    if in_order or unseen.any():
        what = "the labels are sorted" if in_order else f"no other is of class {int(labels[kept:][unseen][0])}"
        warn_once(
            f"data: split='last' keeps the last {dataset.validation:.0%} of the samples for validation, and {what}, so "
            "that training and validation have other classes; shuffle them in load(), or give split='random'"
        )


class _Checked(Source):
    """A source that is as `Source` describes it; what `_replace` makes of it may not be."""

    __slots__ = ()

    def _replace(self, /, **changes: Any) -> Source:  # type: ignore[override]
        return Source(*self)._replace(**changes)


def _check_sizes(inputs: Tensor, labels: Tensor, test_inputs: Tensor, test_labels: Tensor) -> None:
    """Raises UsageError unless every input has a label, and the samples of both parts are alike."""
    for part, given, named in (("", inputs, labels), ("test_", test_inputs, test_labels)):
        if len(given) != len(named):
            raise UsageError(
                f"data: there are {len(given)} {part}inputs and {len(named)} {part}labels; give one label for every "
                "input"
            )
        if not len(given):
            raise UsageError(f"data: {part}inputs has no samples; give some")
    for kind, one, other in (
        ("shape", tuple(inputs.shape[1:]), tuple(test_inputs.shape[1:])),
        ("type", _kind(inputs), _kind(test_inputs)),
    ):
        if one != other:
            raise UsageError(
                f"data: a sample of inputs has {kind} {one} and one of test_inputs {kind} {other}; give both alike"
            )


def _class_count(given: Any) -> int:
    try:
        count = -1 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        count = -1
    if count < 2:
        raise UsageError(f"data: classes is {given!r}; give how many there are, a whole number of at least 2")
    return count


def _inputs(source: Source) -> list[Tensor]:
    given = {name: getattr(source, name) for name in ("inputs", "test_inputs")}
    found = {name: _tensor(name, value) for name, value in given.items()}
    doubles = [name for name, value in given.items() if not isinstance(value, Tensor) and found[name].dtype == DOUBLE]
    if not any(_merges(found[name]) for name in doubles):
        found |= {name: found[name].to(torch.get_default_dtype()) for name in doubles}
    return [_finite(name, inputs) for name, inputs in found.items()]


def _merges(inputs: Tensor) -> bool:
    """Whether PyTorch's default type is too coarse for a column, such as seconds since 1970, or too small."""
    if not len(inputs):
        return False
    columns = inputs.reshape(len(inputs), -1)
    error = (columns.to(torch.get_default_dtype()).double() - columns).abs().amax(0)
    spread, size = columns.std(0, correction=0), columns.abs().amax(0)
    return bool(((error > 1e-3 * spread) & (spread > 1e-9 * size)).any())


def _finite(name: str, inputs: Tensor) -> Tensor:
    inputs = inputs.long() if inputs.dtype in STORED_ONLY else inputs
    numbers = inputs.is_floating_point() or inputs.is_complex()
    # One sum shows whether there is anything to look for, in a tenth of the time.
    if numbers and not inputs.sum().isfinite():
        rows = ~inputs.reshape(len(inputs), -1).isfinite().all(1)
        if rows.any():
            raise UsageError(
                f"data: {name}[{int(rows.nonzero()[0])}] holds a NaN or an infinity ({_samples(rows)}); replace it in "
                "load(), or leave the sample out"
            )
    return inputs


def _labels(name: str, given: Any, classes: int) -> Tensor:
    labels = _tensor(name, given).cpu()
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dim() != 1:
        raise UsageError(
            f"data: {name} have shape {tuple(labels.shape)}; give the class of every sample, [M], such as "
            "labels.argmax(1) of labels with a column for each class"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise UsageError(
            f"data: {name} are {_kind(labels)}, and regression is not supported yet; give class numbers of an integer "
            "type, such as labels.long()"
        )
    labels = labels.long()
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        place = int(wrong.nonzero()[0])
        raise UsageError(
            f"data: {name}[{place}] is {int(labels[place])} ({_samples(wrong)} outside 0 to {classes - 1}, as classes "
            f"is {classes}); {_correction(labels, classes)}"
        )
    return labels


def _correction(labels: Tensor, classes: int) -> str:
    """What to do about labels that are not 0 … classes − 1."""
    low, high = int(labels.min()), int(labels.max())
    if low == 1 and high == classes:
        return "count the classes from 0, as in labels - 1"
    if (low, high, classes) == (-1, 1, 2):
        return "count the classes from 0, as in (labels + 1) // 2"
    if low < 0:
        return "leave samples without a class out in load()"
    return f"give classes={high + 1}, or correct the labels"


def _tensor(name: str, given: Any) -> Tensor:
    """The numbers as a dense tensor; those of an array or a list are not copied where that can be helped."""
    if isinstance(given, Tensor):
        if given.layout != torch.strided or given.is_nested:
            raise UsageError(f"data: {name} is a sparse or nested tensor; give a dense one")
        tensor = given.detach()
    else:
        try:
            filled = given.filled(np.nan) if isinstance(given, np.ma.MaskedArray) else given
            array = np.require(filled, requirements=["C", "W"])
            tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        except (TypeError, ValueError, RuntimeError):
            raise UsageError(
                f"data: {name} is {describe_value(given)}, of which no tensor of numbers can be made; "
                f"{_remedy(name, given)}"
            ) from None
    if not tensor.dim():
        raise UsageError(f"data: {name} is a single number; give one for every sample, along the first axis")
    return tensor


def _remedy(name: str, given: Any) -> str:
    """What to do about something of which no tensor can be made."""
    if not isinstance(given, Iterable) or isinstance(given, Mapping | Iterator):
        return "give a tensor or an array"
    if name.endswith("labels"):
        return f"give class numbers, such as numpy.unique({name}, return_inverse=True)[1]"
    return "give numbers alone, as many for each sample (pad what is shorter)"


def _samples(rows: Tensor) -> str:
    return f"{int(rows.sum())} of {len(rows)} samples"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
