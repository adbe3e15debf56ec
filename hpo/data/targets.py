"""Labels of every task, checked: classes, numbers, zeros and ones, or a class for each token."""

import operator
from typing import Any

import torch
from torch import Tensor

from hpo.data.source import Source
from hpo.data.tensors import as_default_floats, as_tensor, finite, share, type_name
from hpo.errors import UsageError, require
from hpo.tasks import IGNORED, TASKS, Task
from hpo.user_code.messages import warn_once

PARTS = ("labels", "test_labels")


def check_targets(source: Source, task: Task) -> tuple[Tensor, Tensor, int | None]:
    """The labels and test labels on the CPU in the form that `task` needs, and the number of classes, if it has any.

    Raises:
        UsageError: they do not suit the task; the sentence names the field, and the sample if it is about one.
    """
    given = {name: getattr(source, name) for name in PARTS}
    tensors = {name: _without_column(as_tensor(name, value).cpu()) for name, value in given.items()}
    if not task.has_classes:
        check = _check_numbers if task.name == "regression" else _check_zeros_and_ones
        if task.name == "regression":
            tensors = as_default_floats(given, tensors)
        labels, test_labels = (check(name, tensor) for name, tensor in tensors.items())
        if labels.shape[1:] != test_labels.shape[1:]:
            raise UsageError(
                f"data: a sample of labels has shape {tuple(labels.shape[1:])} and one of test_labels "
                f"{tuple(test_labels.shape[1:])}; use the same"
            )
        return labels, test_labels.to(labels.dtype), None
    classes = _class_count(source.classes)
    labels, test_labels = (_check_classes(name, tensor, classes, task) for name, tensor in tensors.items())
    if labels.shape[1:] != test_labels.shape[1:]:
        raise UsageError(
            f"data: labels have {labels.shape[1]} tokens and test_labels {test_labels.shape[1]}; use sequences of one "
            f"length, padded with {IGNORED}"
        )
    _warn_of_unused_classes(labels, test_labels, classes, task)
    return labels, test_labels, classes


def _without_column(labels: Tensor) -> Tensor:
    return labels[:, 0] if labels.dim() == 2 and labels.shape[1] == 1 else labels


def _check_numbers(name: str, labels: Tensor) -> Tensor:
    """Floats [M] or [M, ...]."""
    if labels.is_complex():
        raise UsageError(f"data: {name} are {type_name(labels)}; give their real and imaginary parts as two numbers")
    labels = finite(name, labels)
    return labels if labels.dtype in (torch.float32, torch.float64) else labels.to(torch.get_default_dtype())


def _check_zeros_and_ones(name: str, labels: Tensor) -> Tensor:
    """Zeros and ones [M, L] as int64."""
    if labels.dim() != 2:
        raise UsageError(
            f"data: {name} have shape {tuple(labels.shape)}; give 0 or 1 for each of L labels, [M, L], or use the task "
            "'classification' for one class per sample"
        )
    wrong = ((labels != 0) & (labels != 1)).any(1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise UsageError(
            f"data: {name}[{row}] is {labels[row].tolist()} ({share(wrong)} with other values than 0 and 1); give 0 or "
            "1 for each label"
        )
    return labels.long()


def _class_count(given: Any) -> int:
    try:
        count = -1 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        count = -1
    require(count >= 2, "data: classes", given, "the number of classes, a whole number of at least 2")
    return count


def _check_classes(name: str, labels: Tensor, classes: int, task: Task) -> Tensor:
    """Whole numbers in 0 … classes − 1 as int64: [M], or [M, T] for tokens."""
    tokens = task.name == "tokens"
    if labels.dim() != 1 + tokens:
        other = TASKS["classification" if tokens else "multilabel"]
        example = "the next token at every position" if tokens else "labels.argmax(1) for one-hot labels"
        raise UsageError(
            f"data: {name} have shape {tuple(labels.shape)}, and the task is {task.words}; give {task.targets}, such "
            f"as {example}, or the data set the task '{other.name}' ({other.targets})"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise UsageError(
            f"data: {name} are {type_name(labels)}, and the task is {task.words}; give the data set the task "
            "'regression', or integer class numbers, such as labels.long()"
        )
    labels = labels.long()
    wrong = (labels < 0) | (labels >= classes)
    wrong &= (labels != IGNORED) | (not tokens)
    rows = wrong.any(1) if tokens else wrong
    if rows.any():
        row = int(rows.nonzero()[0])
        value = int(labels[wrong][0])
        raise UsageError(
            f"data: {name}[{row}] {'contains' if tokens else 'is'} {value} ({share(rows)} outside 0 to {classes - 1}, "
            f"as classes is {classes}); {_correction(labels, classes, tokens)}"
        )
    if tokens and len(labels) and not (labels != IGNORED).any():
        raise UsageError(f"data: all {name} are {IGNORED}, so no token has a target; give some")
    return labels


def _correction(labels: Tensor, classes: int, tokens: bool) -> str:
    """Advice for labels outside 0 … classes − 1."""
    low, high = int(labels.min()), int(labels.max())
    if low == 1 and high == classes:
        return "count the classes from 0, as in labels - 1"
    if (low, high, classes) == (-1, 1, 2) and not (labels == 0).any():
        return "count the classes from 0, as in (labels + 1) // 2"
    if low < 0 and high < classes:
        return f"use {IGNORED} for tokens without a target" if tokens else "remove samples without a class"
    return f"set classes={high + 1}, or correct the labels"


def _warn_of_unused_classes(labels: Tensor, test_labels: Tensor, classes: int, task: Task) -> None:
    if task.name == "tokens":
        return
    used, tested = (torch.bincount(part, minlength=classes) > 0 for part in (labels, test_labels))
    unused = (~used).nonzero().flatten().tolist()
    if not unused:
        return
    unseen = (tested & ~used).nonzero().flatten().tolist()
    if unseen:
        warn_once(
            f"data: warning: test_labels have {_classes(unseen)}, which no label for training has; every network is "
            "wrong there"
        )
    elif unused == [0]:
        warn_once(
            f"data: warning: no label is class 0, but classes is {classes}; if they count from 1, give labels - 1"
        )
    else:
        advice = "number the classes in use, as numpy.unique(labels, return_inverse=True)[1] does"
        advice += ", or give task='regression' if the labels are amounts" if 2 * len(unused) > classes else ""
        warn_once(
            f"data: warning: no label is {_classes(unused)}, but classes is {classes}, and label noise and the "
            f"accuracy of guessing count every class; {advice}"
        )


def _classes(classes: list[int]) -> str:
    """ "class 3 or 5", at most five of them."""
    *others, last = [str(each) for each in classes[:5]]
    more = f" or {len(classes) - 5} more" if len(classes) > 5 else ""
    text = f"{', '.join(others)} or {last}" if others and not more else ", ".join([*others, last])
    return f"class {text}{more}"
