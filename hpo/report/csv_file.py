"""CSV files that spreadsheets open without running what they contain."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpo.output import visible

ROWS = 20_000  # that are written at once
# How a formula begins, and the mark of a text.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a table in which spreadsheets run no text as a formula: such a text has an apostrophe in front.

    So has one that begins with an apostrophe itself, so that taking one away gives every text back, except for control
    characters: they stand as escapes, since a carriage return would end the row for some readers.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_as_text(name) for name in frame])
        columns = [_cells(frame[name]) for name in frame]
        for start in range(0, len(frame), ROWS):
            parts = (column[start : start + ROWS].tolist() for column in columns)
            writer.writerows(zip(*parts, strict=True))


def _cells(column: "pd.Series[Any]") -> np.ndarray:
    """What the csv module writes as pandas would: None for a missing value, texts without formulas."""
    if isinstance(column.dtype, pd.Int64Dtype):  # whole numbers, some of which are missing
        return column.to_numpy(dtype=object, na_value=None)
    values: np.ndarray = column.to_numpy()
    if column.dtype.kind in "iub":
        return values
    if column.dtype.kind == "f":
        missing = np.isnan(values)
        return np.where(missing, _objects([None]), values) if missing.any() else values
    if column.dtype == object:
        return _objects([None if value is None or value != value else _as_text(value) for value in column])
    codes, texts = pd.factorize(column)  # many rows share a text
    return _objects([*map(_as_text, texts), None])[codes]


def _objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _as_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = visible(value, keep="\n\t")
    return f"'{text}" if text.startswith(FORMULA) else text
