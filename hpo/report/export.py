"""A study's tables as files for other programs."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from hpo.errors import UsageError
from hpo.output_files import writing
from hpo.report.csv_file import write_csv
from hpo.report.results import Results
from hpo.report.results_json import as_json

TABLES = ("trials", "reruns", "curves", "verdicts", "best")


def export_tables(results: Results, folder: Path, kind: str) -> list[Path]:
    """Writes the tables of `Results` into a folder, a file each, and returns their paths.

    Args:
        folder: created if needed; files of an earlier export are replaced.
        kind: "csv" (as the report's files: a text that a spreadsheet would take for a formula has an apostrophe in
            front), "parquet", or "json" (a list of rows, NaN as null).

    Raises:
        UsageError: nothing that writes parquet files is installed. HpoError: the folder cannot be written.
    """
    paths = [folder / f"{name}.{kind}" for name in TABLES]
    with writing(folder, "give another folder with --to"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in zip(TABLES, paths, strict=True):
            WRITERS[kind](getattr(results, name), path)
    return paths


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    for column in [name for name in table if table[name].dtype == object]:
        kinds = {type(value) for value in table[column] if not pd.isna(value)}
        if len(kinds) > 1 and not kinds <= {int, float}:  # a column of a parquet file has one type
            table[column] = [None if pd.isna(value) else str(value) for value in table[column]]
    try:
        table.to_parquet(path, index=False)
    except ImportError as error:
        raise UsageError("parquet files need another package: pip install pyarrow") from error


def _write_json(table: pd.DataFrame, path: Path) -> None:
    rows = as_json(table.astype(object).where(table.notna(), None).to_dict("records"))
    path.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "csv": write_csv,
    "parquet": _write_parquet,
    "json": _write_json,
}
