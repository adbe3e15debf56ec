"""Data sets from samples that a study file has at hand: their task, their test part, and a digest of their content."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo.data.held_out import split_source
from hpo.data.loading import check_source
from hpo.data.source import Dataset, Source
from hpo.data.tensors import as_default_floats, as_tensor, type_name
from hpo.errors import UsageError, require
from hpo.tasks import IGNORED, TASKS, TOKENS


@dataclass(frozen=True, eq=False)
class Given(Dataset):
    """A data set whose samples are read when it is created; a digest of them enters the study's definition.

    Attributes:
        task: what the labels are, one of "classification", "regression", "multilabel", "tokens"; by default what their
            type and shape suggest (see `hpo.Arrays`).
        classes: the number of classes; by default the largest class label and one.
        ignore_index: the label of tokens without a target, as in the given labels.
        label_noise, noise, validation, split, mixup, cutmix, mix_probability: see `hpo.Dataset`.
        content: the digest of all samples.
    """

    task: Any = field(default=None, kw_only=True, metadata={"described": False})  # type: ignore[misc]
    classes: int | None = field(default=None, kw_only=True, metadata={"described": "classes"})
    ignore_index: int = field(default=IGNORED, kw_only=True, metadata={"described": "predicts_tokens"})
    content: str = field(default="", init=False)

    def _keep(self, inputs: Any, labels: Any, test: Any, content: str = "") -> None:
        """Checks the samples and keeps them; sets what follows from them.

        Args:
            test: (inputs, labels), or the share of the samples that is drawn after they were checked, so that errors
                count the rows as they were given.
            content: a digest of what they were made from; by default of themselves.
        """
        owner = type(self).__name__
        is_share = isinstance(test, float)
        arrays = {"inputs": inputs, "labels": labels}
        arrays |= {} if is_share else {"test_inputs": test[0], "test_labels": test[1]}
        tensors = {name: to_tensor(owner, name, value) for name, value in arrays.items()}
        tensors = {f"test_{name}": tensor for name, tensor in tensors.items() if is_share} | tensors
        for names in (("inputs", "test_inputs"), ("labels", "test_labels")):
            tensors |= as_default_floats(dict.fromkeys(names), {name: tensors[name] for name in names})
        both = [tensors["labels"], tensors["test_labels"]]
        task = self.task or infer_task(owner, tensors["inputs"], both)
        require(task in TASKS, f"{owner}: task", task, f"one of {', '.join(TASKS)}")
        if TASKS[task].has_classes:
            both = [_whole_numbers(owner, part, self.ignore_index, task) for part in both]
        classes = (self.classes or _count_classes(both)) if TASKS[task].has_classes else None
        source = Source(tensors["inputs"], both[0], tensors["test_inputs"], both[1], classes)
        source = check_source(source, task)
        source = check_source(split_source(owner, source, test), task) if is_share else source
        values = {"task": task, "classes": source.classes, "content": content or digest(source), "_source": source}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def load(self) -> Source:
        """The samples, checked."""
        return self._source  # type: ignore[attr-defined]

    @property
    def predicts_tokens(self) -> bool:
        """Whether the labels are a class per token, of which some may have none."""
        return bool(self.task == TOKENS.name)

    @property
    def features(self) -> int:
        """The numbers of one sample: the input width of a multilayer perceptron."""
        return self.load().inputs[:1].numel()

    @property
    def outputs(self) -> int:
        """How many outputs a network needs, for each token if the task is that: classes, labels, or numbers."""
        source = self.load()
        return source.classes or source.labels[0].numel()


def to_tensor(owner: str, name: str, given: Any) -> Tensor:
    """Numbers of any type as a tensor; half precision becomes float32, and so does float64 where it is fine enough.

    Raises:
        UsageError: they are no numbers, or have different lengths.
    """
    if str(getattr(given, "dtype", "")) == "category":
        raise UsageError(f"{owner}: {name} are categories; give class numbers, such as {name}.cat.codes")
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = given.float() if given.dtype in (torch.float16, torch.bfloat16) else given
        return as_tensor(name, given)
    if hasattr(given, "dtypes") and hasattr(given, "columns"):
        given = _frame_values(owner, name, given)
    elif hasattr(given, "to_numpy"):
        given = given.to_numpy()
    array = np.asarray(given) if not isinstance(given, list) or _is_regular(given) else None
    if array is None or array.dtype.kind not in "biufc":
        raise UsageError(f"{owner}: {name} {_text_or_objects(name, array)}")
    return as_tensor(name, array.astype(np.float32) if array.dtype == np.float16 else array)


def infer_task(owner: str, inputs: Tensor, labels: list[Tensor]) -> str:
    """The task that the type and the shape of labels suggest.

    Raises:
        UsageError: several are as likely.
    """
    first = labels[0]
    wide = first.dim() > 1 and first.shape[1:].numel() > 1
    marks = all(bool(((part == 0) | (part == 1)).all()) for part in labels)
    if first.is_floating_point():
        if marks and not wide:
            raise UsageError(
                f"{owner}: labels are {type_name(first)} with the values 0 and 1 only; give task='classification' or "
                "task='regression'"
            )
        return "multilabel" if marks and first.dim() == 2 else "regression"
    if not wide:
        return "classification"
    tokens = not inputs.is_floating_point() or not marks
    return "tokens" if tokens and first.dtype != torch.bool else "multilabel"


def digest(source: Source) -> str:
    """A digest of the samples: shapes, types and every byte."""
    total = hashlib.sha256()
    for tensor in source[:4]:
        assert isinstance(tensor, Tensor)
        total.update(f"{type_name(tensor)} {tuple(tensor.shape)}".encode())
        flat = tensor.contiguous().flatten()
        total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def _whole_numbers(owner: str, labels: Tensor, ignored: int, task: str) -> Tensor:
    if labels.is_floating_point():
        if not bool((labels == labels.round()).all()):
            raise UsageError(
                f"{owner}: labels are {type_name(labels)} such as {float(labels.flatten()[0]):g}, and the task is "
                f"{TASKS[task].words}; give task='regression', or whole numbers as classes"
            )
        labels = labels.long()
    return labels.long().masked_fill(labels == ignored, IGNORED) if task == "tokens" else labels


def _count_classes(labels: list[Tensor]) -> int:
    return max(2, 1 + max((int(part.max()) for part in labels if part.numel()), default=0))


def _frame_values(owner: str, name: str, frame: Any) -> Any:
    """The numbers of a pandas DataFrame, float64 if any of them is no whole number or missing."""
    kinds = {str(column): getattr(kind, "kind", "O") for column, kind in frame.dtypes.items()}
    for column, kind in kinds.items():
        if kind not in "biuf":
            raise UsageError(
                f"{owner}: column {column!r} of {name} is no number ({frame.dtypes[column]}); use hpo.Table, which "
                "encodes categories, or encode or drop the column"
            )
    whole = set(kinds.values()) <= set("biu") and not frame.isna().to_numpy().any()
    return frame.to_numpy(dtype="int64") if whole else frame.to_numpy(dtype="float64", na_value=np.nan)


def _is_regular(given: list[Any]) -> bool:
    try:
        return np.asarray(given).dtype != object
    except ValueError:
        return False


def _text_or_objects(name: str, array: Any) -> str:
    """What is wrong with values that are no numbers, and what to do."""
    if array is None:
        return "has samples of different lengths; pad the shorter ones"
    if array.dtype.kind in "US" or (array.size and isinstance(array.flat[0], str)):
        example = repr(str(array.flat[0])) if array.size else "''"
        if name.endswith("labels"):
            return (
                f"are text such as {example}; give class numbers, such as numpy.unique({name}, return_inverse=True)[1]"
            )
        return f"contain text such as {example}; encode it as numbers, or use hpo.Table, which encodes categories"
    return f"have the type {array.dtype}; convert them to numbers, such as {name}.astype('float32')"
