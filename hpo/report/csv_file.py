"""CSV files that spreadsheets open without running what they contain."""

from pathlib import Path

import pandas as pd

from hpo.output import visible

# How a formula begins, and the mark of a text.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a table in which spreadsheets run no text as a formula: such a text has an apostrophe in front.

    So has one that begins with an apostrophe itself, so that taking one away gives every text back, except for control
    characters: they stand as escapes, since a carriage return would end the row for some readers.
    """
    safe = frame.rename(columns=_as_text)
    for column in safe.select_dtypes(exclude=["number", "bool"]):
        # As objects: pandas would make 64.0 of a 64 above an empty cell.
        safe[column] = pd.Series([_as_text(value) for value in safe[column]], index=safe.index, dtype=object)
    safe.to_csv(path, index=False, lineterminator="\n")


def _as_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = visible(value, keep="\n\t")
    return f"'{text}" if text.startswith(FORMULA) else text
