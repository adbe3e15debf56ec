"""The targets of a table: classes, zeros and ones, or standardised numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpo.data.table_encoding import column_kinds
from hpo.errors import UsageError

MAX_CLASSES = 20  # whole numbers with at most so many different values are classes


def target_values(rest: Any, test: Any, targets: Sequence[str], task: str | None, scale: bool) -> tuple[Any, Any]:
    """The labels outside the test set and in it: classes from 0, zeros and ones, or standardised numbers."""
    kinds, test_kinds = (column_kinds({name: part[name].dtype for name in targets}) for part in (rest, test))
    for name, kind in kinds.items():
        if kind == "number" and test_kinds[name] != kind:
            raise UsageError(f"Table: the target {name!r} is a number, but not in the test rows; correct it")
        if kind == "number" and not all(np.isfinite(part[name].to_numpy("float64")).all() for part in (rest, test)):
            raise UsageError(f"Table: the target {name!r} has infinite values; replace them")
        if kind != "number" and task == "regression":
            raise UsageError(
                f"Table: the task is regression, and the target {name!r} is no number; give another target or task"
            )
    parts = [part[list(targets)] for part in (rest, test)]
    if len(targets) > 1:
        for name, kind in kinds.items():
            if kind != "number":
                raise UsageError(
                    f"Table: several targets need to be numbers, and {name!r} is a {kind}; encode it as numbers, or "
                    "give one target"
                )
        values = [part.to_numpy("float64") for part in parts]
        marks = all(np.isin(value, (0, 1)).all() for value in values)
        return (values[0] > 0, values[1] > 0) if marks and task != "regression" else _scaled(values, scale)
    return _one_target(targets[0], [part[targets[0]] for part in parts], kinds[targets[0]] == "number", task, scale)


def _one_target(
    target: str, columns: Sequence[Any], is_number: bool, task: str | None, scale: bool
) -> tuple[np.ndarray, np.ndarray]:
    if task is None and is_number and columns[0].dtype.kind == "f" and columns[0].isin((0, 1)).all():
        raise UsageError(
            f"Table: the target {target!r} is {columns[0].dtype} with the values 0 and 1 only; give "
            "task='classification' or task='regression'"
        )
    few = not is_number or (columns[0].dtype.kind in "iu" and columns[0].nunique() <= MAX_CLASSES)
    if task == "regression" or (task is None and not few):
        return _scaled([column.to_numpy("float64")[:, None] for column in columns], scale)
    return _class_numbers(target, *columns)


def _class_numbers(target: str, rest: Any, test: Any) -> tuple[np.ndarray, np.ndarray]:
    """Classes from 0, in the order of their values."""
    try:
        classes = sorted(rest.unique().tolist())
    except TypeError as error:
        raise UsageError(
            f"Table: the target {target!r} has both numbers and texts; convert it to one of them, such as "
            f"frame[{target!r}].astype(str)"
        ) from error
    numbers = {value: number for number, value in enumerate(classes)}
    unseen = sorted(set(test.unique().tolist()) - numbers.keys(), key=str)
    if unseen:
        raise UsageError(f"Table: {target!r} is {unseen[0]!r} only in the test rows; training needs every class")
    return rest.map(numbers).to_numpy("int64"), test.map(numbers).to_numpy("int64")


def _scaled(values: Sequence[np.ndarray], scale: bool) -> tuple[np.ndarray, np.ndarray]:
    mean, sd = values[0].mean(0), values[0].std(0)
    sd = np.where(sd > 0, sd, 1.0)
    rest, test = ((value - mean) / sd if scale else value for value in values)
    return rest.astype("float32"), test.astype("float32")
