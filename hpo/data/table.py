"""Table: a CSV or Parquet file, or a data frame, with numbers and categories."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpo.data.given import Given
from hpo.data.held_out import check_share, split_test
from hpo.data.table_encoding import MISSING, fit_encoding
from hpo.data.table_targets import target_values
from hpo.errors import HpoError, UsageError, did_you_mean, plural, require
from hpo.user_code.messages import describe_value

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
        validation, split, label_noise, noise: the validation part of each seed and wrong labels; see `hpo.Dataset`.
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
        if not self.target or not isinstance(self.target, str | list | tuple):
            wrong = f"is {self.target!r}" if self.target else "is missing"
            raise UsageError(f"Table: target {wrong}; give the name of a column, or several of {_names(frame)}")
        targets = [self.target] if isinstance(self.target, str) else list(self.target)
        require(self.missing in (None, "mean"), "Table: missing", self.missing, "'mean', or leave it out")
        _check_columns(frame, targets, self.exclude, self.missing)
        if isinstance(self.test, float | int):
            kept, chosen = split_test(len(frame), check_share("Table", self.test, "a second file or data frame"))
            rest, test = frame.iloc[kept.numpy()], frame.iloc[chosen.numpy()]
        else:
            rest, (test, test_content) = frame, _read(self.test)
            content = hashlib.sha256(f"{content} {test_content}".encode()).hexdigest()[:16]
            _check_columns(test, targets, self.exclude, self.missing, frame)
        inputs = [name for name in frame.columns if name not in (*targets, *self.exclude)]
        encoding = fit_encoding(rest, test, inputs)
        labels, test_labels = target_values(rest, test, targets, self.task, self.scale_target)
        object.__setattr__(self, "target", targets[0] if len(targets) == 1 else targets)
        values: dict[str, Any] = {"exclude": list(self.exclude), "_encoding": encoding}
        values["file_name"] = Path(self.file).name if isinstance(self.file, str | os.PathLike) else ""
        values["test"] = self.test if isinstance(self.test, float) else "given separately"
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._keep(encoding.apply(rest), labels, (encoding.apply(test), test_labels), content)
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
        frame = file.reset_index(drop=True).rename(columns=str)
        return frame, hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()[:16]
    if not isinstance(file, str | os.PathLike):
        raise UsageError(
            f"Table: {describe_value(file)} is no table; give the path of a CSV or Parquet file, or a "
            "pandas.DataFrame of it"
        )
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
        # Low memory would decide the type of a column for each part of the file.
        options: dict[str, Any] = {"encoding": "utf-8-sig", "skipinitialspace": True, "low_memory": False}
        return pd.read_csv(path, sep=separator, **options), content
    except ImportError as error:
        raise HpoError(
            "Table needs the pyarrow package for Parquet files: pip install 'hpo-studies[parquet]'"
        ) from error
    except (OSError, ValueError) as error:  # pandas' own errors of parsing and Arrow's are ValueErrors
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"Table: {str(file)!r} cannot be read ({reason}); give a CSV or Parquet file") from error


def _names(frame: Any) -> str:
    return ", ".join(map(str, frame.columns))


def _check_columns(
    frame: Any, targets: Sequence[str], exclude: Sequence[str], missing: str | None, training: Any = None
) -> None:
    """Raises UsageError unless a table has the columns that are named, and those of the table for training if given."""
    names = [str(name) for name in frame.columns]
    if isinstance(exclude, str):
        raise UsageError(f"Table: exclude is {exclude!r}; give a tuple of columns, ({exclude!r},)")
    for name in frame.columns[frame.columns.duplicated()]:
        raise UsageError(f"Table: two columns are named {name!r}; rename one of them")
    for role, chosen in (("target", targets), ("exclude", exclude)):
        for name in chosen:
            if name not in names and (role == "target" or training is None):
                hint = did_you_mean(str(name), names)
                raise UsageError(f"Table: {role} names the column {name!r}; the columns are {_names(frame)}{hint}")
    for name in () if training is None else training.columns:
        if name not in frame.columns and name not in exclude:
            raise UsageError(f"Table: the test table has no column {name!r}; add it, or give exclude=({name!r},)")
    if not len(frame):
        raise UsageError("Table: there are no rows; give a table with samples")
    _check_missing(frame.drop(columns=list(exclude)), targets, missing)


def _check_missing(frame: Any, targets: Sequence[str], missing: str | None) -> None:
    counts = frame.isna().sum()
    given = {name: int(count) for name, count in counts.items() if count}
    for name in targets:
        if name in given:
            raise UsageError(
                f"Table: {_missing_values({name: given[name]})} in {len(frame)} rows, and it is the target; drop these "
                "rows"
            )
    if given and missing is None:
        raise UsageError(
            f"Table: {_missing_values(given)} in {len(frame)} rows; give missing='mean' (numbers get the mean of the "
            f"training part, categories one of their own), fill them, drop these rows, or give exclude={tuple(given)!r}"
        )


def _missing_values(counts: Mapping[str, int]) -> str:
    """ "column 'age' has 3 missing values and 'city' 1"."""
    (first, count), *others = counts.items()
    more = "".join(f", {name!r} has {number}" for name, number in others)
    return f"column {first!r} has {plural(count, 'missing value')}{more}"
