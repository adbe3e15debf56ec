"""Table: a CSV or Parquet file, or a data frame, with numbers and categories."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo.data.given import Given, check_share, split_test
from hpo.data.table_encoding import MISSING, column_kinds, fit_encoding
from hpo.errors import HpoError, UsageError, did_you_mean, plural, require

MAX_CLASSES = 20  # whole numbers with at most so many different values are classes
SEPARATORS = ",;\t|"


@dataclass(frozen=True, eq=False)
class Table(Given):
    """A table with one sample per row, from a CSV or Parquet file or a pandas DataFrame.

    For every seed, numbers are standardised with the mean and standard deviation of its training part, and categories
    become one input each, which is 0 where the category does not occur in the training part. Neither uses the
    validation or test samples.

    Attributes:
        file: the file, or a DataFrame. target: the column to predict, or several columns. Text, truth values and whole
            numbers with at most 20 different values are classes; other numbers are regression targets.
        test: a fraction of the rows that is drawn once, the same for all seeds; or a second file or DataFrame.
        exclude: columns that are left out, such as identifiers.
        scale_target: whether regression targets are standardised, with the mean and standard deviation outside the test
            set, so that losses and RMSE are in standard deviations of the target. R² is the same without it.
        missing: "mean" replaces missing numbers by the mean of the seed's training part, and makes missing categories
            one of their own; by default tables with missing cells are refused. Targets are never replaced.
    """

    file: Any = field(repr=False, metadata={"described": False})
    target: Any = ""
    test: Any = 0.2
    exclude: Sequence[str] = field(default=(), metadata={"described": "exclude"})
    scale_target: bool = field(default=True, metadata={"described": "scale_target"})
    missing: str | None = field(default=None, metadata={"described": "missing"})
    file_name: str = field(default="", init=False, metadata={"described": "file_name"})

    def __post_init__(self) -> None:
        frame, content = _read(self.file)
        targets = [self.target] if isinstance(self.target, str) else list(self.target)
        require(self.missing in (None, "mean"), "Table: missing", self.missing, "'mean', or leave it out")
        _check_columns(frame, targets, self.exclude, self.missing)
        if isinstance(self.test, float | int):
            kept, chosen = split_test(len(frame), check_share("Table", self.test))
            rest, test = frame.iloc[kept.numpy()], frame.iloc[chosen.numpy()]
        else:
            rest, (test, test_content) = frame, _read(self.test)
            content = hashlib.sha256(f"{content} {test_content}".encode()).hexdigest()[:16]
            _check_columns(test, targets, self.exclude, self.missing)
        inputs = [name for name in frame.columns if name not in (*targets, *self.exclude)]
        encoding = fit_encoding(rest, test, inputs)
        labels, test_labels = _labels(rest, test, targets, self.task, self.scale_target)
        object.__setattr__(self, "target", targets[0] if len(targets) == 1 else targets)
        values: dict[str, Any] = {"exclude": list(self.exclude), "_encoding": encoding}
        values["file_name"] = Path(self.file).name if isinstance(self.file, str | os.PathLike) else ""
        values["test"] = self.test if isinstance(self.test, float) else "given separately"
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._keep(encoding.apply(rest), labels, encoding.apply(test), test_labels, content)
        object.__setattr__(self, "scale_target", self.scale_target and self.task == "regression")
        super().__post_init__()

    @property
    def columns(self) -> list[str]:
        """The names of the inputs, "COLUMN" or "COLUMN=CATEGORY"."""
        return self._encoding.names  # type: ignore[attr-defined]

    def scaling(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and factor [F] from the inputs [M, F] of a training part: x ↦ (x − shift) · factor."""
        numbers = len(self._encoding.numbers)  # type: ignore[attr-defined]
        known = inputs.double().masked_fill(inputs == MISSING, torch.nan)
        shift = known.nanmean(0).nan_to_num()
        sd = (known - shift).square().nanmean(0).sqrt()
        factor = torch.where(sd > 1e-12, 1 / sd, 0)  # a constant tells nothing
        shift[numbers:] = 0
        factor[numbers:] = (inputs[:, numbers:] != 0).any(0).double()
        return shift.to(inputs.dtype), factor.to(inputs.dtype)

    def rescale(self, inputs: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        """Standardised inputs, in which missing numbers are 0, the mean."""
        scaled = super().rescale(inputs, shift, factor)
        return scaled.masked_fill(inputs == MISSING, 0) if self.missing else scaled


def _read(file: Any) -> tuple[Any, str]:
    """A file as a DataFrame, or a DataFrame as it is; and a digest of its content."""
    import pandas as pd

    if isinstance(file, pd.DataFrame):
        frame = file.reset_index(drop=True)
        return frame, hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()[:16]
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"Table: there is no file {str(file)!r} in {Path.cwd()}; give its path")
    try:
        content = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path), content
        with path.open(encoding="utf-8-sig") as lines:
            header = lines.readline()
        separator = max(SEPARATORS, key=header.count)
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", skipinitialspace=True), content
    except ImportError as error:
        raise HpoError(
            "Table needs the pyarrow package for Parquet files: pip install 'hpo-studies[parquet]'"
        ) from error
    except (OSError, ValueError) as error:  # pandas' own errors of parsing and Arrow's are ValueErrors
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"Table: {str(file)!r} cannot be read ({reason}); give a CSV or Parquet file") from error


def _check_columns(frame: Any, targets: Sequence[str], exclude: Sequence[str], missing: str | None) -> None:
    names = [str(name) for name in frame.columns]
    for role, chosen in (("target", targets), ("exclude", exclude)):
        for name in chosen:
            if name not in names:
                hint = did_you_mean(str(name), names)
                raise UsageError(f"Table: {role} names the column {name!r}; the columns are {', '.join(names)}{hint}")
    if isinstance(exclude, str):
        raise UsageError(f"Table: exclude is {exclude!r}; give a tuple of columns, ({exclude!r},)")
    if not len(frame):
        raise UsageError("Table: there are no rows; give a table with samples")
    _check_missing(frame.drop(columns=list(exclude)), targets, missing)


def _check_missing(frame: Any, targets: Sequence[str], missing: str | None) -> None:
    counts = frame.isna().sum()
    for name in counts[counts > 0].index:
        count = f"column {name!r} has {plural(int(counts[name]), 'missing value')} in {len(frame)} rows"
        if name in targets:
            raise UsageError(f"Table: {count}, and it is the target; drop these rows")
        if missing is None:
            raise UsageError(
                f"Table: {count}; give missing='mean' (numbers get the mean of the training part, categories one of "
                f"their own), fill them, drop these rows, or give exclude=({name!r},)"
            )


def _labels(rest: Any, test: Any, targets: Sequence[str], task: str | None, scale: bool) -> tuple[Any, Any]:
    """The labels outside the test set and in it: classes from 0, zeros and ones, or standardised numbers."""
    kinds = set(column_kinds({name: rest[name].dtype for name in targets}).values())
    parts = [part[list(targets)] for part in (rest, test)]
    if task == "regression" and kinds != {"number"}:
        raise UsageError("Table: the task is regression, and a target is no number; choose another target or task")
    if len(targets) > 1:
        if kinds != {"number"}:
            raise UsageError("Table: several targets need to be numbers; encode them as numbers, or give one target")
        values = [part.to_numpy("float64") for part in parts]
        marks = all(np.isin(value, (0, 1)).all() for value in values)
        return (values[0] > 0, values[1] > 0) if marks and task != "regression" else _scaled(values, scale)
    columns = [part[targets[0]] for part in parts]
    few = columns[0].dtype.kind in "iu" and columns[0].nunique() <= MAX_CLASSES if kinds == {"number"} else True
    if task == "regression" or (task is None and not few):
        return _scaled([column.to_numpy("float64")[:, None] for column in columns], scale)
    return _class_numbers(targets[0], *columns)


def _class_numbers(target: str, rest: Any, test: Any) -> tuple[np.ndarray, np.ndarray]:
    """Classes from 0, in the order of their values."""
    numbers = {value: number for number, value in enumerate(sorted(rest.unique().tolist()))}
    unseen = sorted(set(test.unique().tolist()) - numbers.keys(), key=str)
    if unseen:
        raise UsageError(f"Table: {target!r} is {unseen[0]!r} only in the test rows; training needs every class")
    return rest.map(numbers).to_numpy("int64"), test.map(numbers).to_numpy("int64")


def _scaled(values: Sequence[np.ndarray], scale: bool) -> tuple[np.ndarray, np.ndarray]:
    mean, sd = values[0].mean(0), values[0].std(0)
    sd = np.where(sd > 0, sd, 1.0)
    rest, test = ((value - mean) / sd if scale else value for value in values)
    return rest.astype("float32"), test.astype("float32")
