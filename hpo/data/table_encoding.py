"""How the columns of a table become inputs: numbers on one scale, and an input for each category."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hpo.errors import UsageError
from hpo.user_code.messages import warn_once

MAX_CLEAR = 20  # with more, where most rows have their own, a warning asks whether the column is an identifier
MAX_CATEGORIES = 100  # of a column; with more it is an identifier or a text
# A number that is missing, among inputs around 0 with a standard deviation of 1: no computed value is so close to 0.
MISSING = 2.0**-120


class Encoding(NamedTuple):
    """How the columns of a table become inputs [M, F].

    Attributes:
        numbers: columns of numbers with their mean and standard deviation outside the test set, by which they are
            brought to one scale before each seed's training part scales them exactly.
        categories: columns of categories with the categories that occur outside the test set, in order; None is that
            of missing cells.
    """

    numbers: dict[str, tuple[float, float]]
    categories: dict[str, list[Any]]

    @property
    def names(self) -> list[str]:
        """The names of the inputs, "COLUMN" or "COLUMN=CATEGORY"."""
        pairs = [(name, value) for name, values in self.categories.items() for value in values]
        return [*self.numbers, *(f"{name}={'missing' if value is None else value}" for name, value in pairs)]

    def apply(self, frame: Any) -> np.ndarray:
        """Inputs [M, F] in float32; a category that does not occur outside the test set is all zeros.

        A missing number is `MISSING`.
        """
        parts = [(_numbers(frame[name]) - mean) / sd for name, (mean, sd) in self.numbers.items()]
        for name, values in self.categories.items():
            column = frame[name]
            cells = [column.isna() if value is None else (column == value).fillna(False) for value in values]
            parts += [each.to_numpy("float64") for each in cells]
        inputs = np.stack(parts, 1).astype("float32")
        return np.where(np.isnan(inputs), np.float32(MISSING), inputs)


def fit_encoding(rest: Any, test: Any, inputs: Sequence[str]) -> Encoding:
    if not inputs:
        raise UsageError("Table: no column is left as an input; name fewer columns as target and exclude")
    numbers: dict[str, tuple[float, float]] = {}
    categories: dict[str, list[Any]] = {}
    kinds, test_kinds = (column_kinds({name: part[name].dtype for name in inputs}) for part in (rest, test))
    for name, kind in kinds.items():
        if kind not in ("number", "category"):
            raise UsageError(f"Table: column {name!r} has the type {kind}; convert it to numbers, or exclude it")
        if rest[name].isna().all():
            raise UsageError(f"Table: column {name!r} has no values outside the test set; give exclude=({name!r},)")
        if kind != test_kinds[name] and test[name].notna().any():
            raise UsageError(f"Table: column {name!r} is a {kind}, but not in the test rows; correct it")
        if kind == "category":
            categories[name] = _categories(name, rest[name])
            continue
        values = _numbers(rest[name].dropna())
        if not np.isfinite(values).all():
            raise UsageError(f"Table: column {name!r} has infinite values; replace them")
        numbers[name] = (float(values.mean()), float(values.std()) or 1.0)
    return Encoding(numbers, categories)


def column_kinds(dtypes: Mapping[str, Any]) -> dict[str, str]:
    """Column → "number", "category" or the type that is neither."""
    kinds = {}
    for name, dtype in dtypes.items():
        text = str(dtype)
        category = text in ("object", "category", "str", "bool", "boolean") or text.startswith("string")
        kinds[name] = "category" if category else "number" if getattr(dtype, "kind", "O") in "iuf" else text
    return kinds


def _numbers(column: Any) -> np.ndarray:
    return np.asarray(column.to_numpy("float64", na_value=np.nan))


def _categories(name: str, column: Any) -> list[Any]:
    found = sorted(column.dropna().unique().tolist(), key=str)
    for value, other in itertools.pairwise(found):
        if str(value) == str(other):
            raise UsageError(
                f"Table: column {name!r} has both {value!r} and {other!r}; convert it to one type, such as "
                f"frame[{name!r}].astype(str)"
            )
    if len(found) > MAX_CATEGORIES:
        raise UsageError(
            f"Table: column {name!r} has {len(found)} different texts in {len(column)} rows, too many for categories; "
            f"give exclude=({name!r},), or group them"
        )
    if len(found) > MAX_CLEAR and 2 * len(found) > len(column):
        warn_once(
            f"Table: column {name!r} has {len(found)} different texts in {len(column)} rows, each of which becomes an "
            f"input; give exclude=({name!r},) if it identifies the rows"
        )
    return [*found, None] if column.isna().any() else found
