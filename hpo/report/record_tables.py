"""The tables of a record that people take away: trials and reruns, a row each, and their curves by epoch.

In them tuning runs, rounds, trials, reruns and epochs count from 1, as in the report and in experiment trackers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hpo.analysis.record import Record
from hpo.analysis.selection import superseded
from hpo.search_space import Value
from hpo.space import Space, split_space
from hpo.stages import Stages

# Name → its phase, and whether it has a row for each epoch.
TABLES = {
    "trials": ("tune", False),
    "trial_curves": ("tune", True),
    "reruns": ("rerun", False),
    "curves": ("rerun", True),
}
KEYS = ["configuration", "phase", "tuning_run", "round", "number", "seed"]


def record_tables(record: Record) -> dict[str, pd.DataFrame]:
    """The tables "trials", "reruns", "trial_curves" and "curves" (of the reruns), each under the name of its CSV file.

    The curves of trials have their own table: they are ten times as long as the rest, and no figure shows them.
    """
    return {name: record_table(record, name) for name in TABLES}


def record_table(record: Record, name: str) -> pd.DataFrame:
    """One of the tables."""
    phase, of_curves = TABLES[name]
    slots = record.slots[record.slots.phase == phase]
    shown = _with_shown_numbers(slots)
    table = _curve_table(record.curves, shown) if of_curves else _slot_table(_with_whole_settings(shown, record))
    if name == "reruns":
        table.insert(list(table).index("round") + 1, "superseded", superseded(slots))
    return table.reset_index(drop=True)


def _with_shown_numbers(slots: pd.DataFrame) -> pd.DataFrame:
    """The slots as people see them: all numbers count from 1, and a tuning run has trials."""
    shown = {"tuning_run": slots["tuning_run"] + 1, "round": slots["round"] + 1, "number": slots["slot"] + 1}
    return slots.assign(**shown, phase=slots["phase"].replace("tune", "trial"))


def _with_whole_settings(slots: pd.DataFrame, record: Record) -> pd.DataFrame:
    """The slots with the fixed values in their settings too, as every one of them was trained."""
    spaces = {entry["name"]: split_space(entry["space"]) for entry in record.study["definition"]["configurations"]}
    settings = [
        whole_setting(spaces[name], setting) if isinstance(setting, dict) else setting
        for name, setting in zip(slots["configuration"], slots["setting"], strict=True)
    ]
    return slots.assign(setting=pd.Series(settings, index=slots.index, dtype=object))


def whole_setting(space: Space, setting: Mapping[str, Value]) -> dict[str, Value]:
    """Every hyperparameter with its value, as CSV, JSON and Parquet hold it: changing batch sizes become a text."""
    return {name: str(value) if isinstance(value, Stages) else value for name, value in space.known(setting).items()}


def column_of(values: Iterable[Any]) -> "pd.Series[Any]":
    """A hyperparameter as a column: float64, int64 where all values are whole, Int64 where some are missing, or object.

    Texts, yes or no and mixed choices stay as they are.
    """
    column = pd.Series(values, dtype=object)
    kind = pd.api.types.infer_dtype(column.dropna())
    if kind == "integer":
        return column.astype("Int64" if column.isna().any() else "int64")
    return column.astype("float64") if kind in ("floating", "mixed-integer-float") else column


def _curve_table(curves: pd.DataFrame, slots: pd.DataFrame) -> pd.DataFrame:
    """A row for each slot and epoch, with a column for each metric that has a value.

    Args:
        curves: see `Record`. slots: in the order of their ids.
    """
    ids = slots["id"].to_numpy()
    curves = curves[curves["slot_id"].isin(ids)]
    positions, epochs = np.searchsorted(ids, curves["slot_id"].to_numpy()), curves["epoch"].to_numpy()
    lengths = np.zeros(len(ids), dtype=np.int64)
    np.maximum.at(lengths, positions, epochs)
    first = np.cumsum(lengths) - lengths
    places = first[positions] + epochs - 1  # the row of each value, where no slot lacks an epoch
    present = np.zeros(lengths.sum(), dtype=bool)
    present[places] = True
    table = slots[KEYS].iloc[np.repeat(np.arange(len(ids)), lengths)[present]]
    columns = {"epoch": (np.arange(len(present)) - np.repeat(first, lengths) + 1)[present]}
    codes = curves["metric"].cat.codes.to_numpy()
    for code, metric in enumerate(curves["metric"].cat.categories):
        column, of_metric = np.full(len(present), np.nan), codes == code
        column[places[of_metric]] = curves["value"].to_numpy()[of_metric]
        if not np.isnan(column).all() or not len(table):
            columns[metric] = column[present]
    return table.assign(**columns)


def _slot_table(slots: pd.DataFrame) -> pd.DataFrame:
    """Slots with a column for each entry of their settings and results.

    Except for their seconds these follow from the plan: not from lost workers, nor from which worker came first.
    """
    plain = slots[["configuration", "tuning_run", "round", "number", "seed", "state", "cause", "value", "seconds"]]
    spread = []
    for column, kind in (("setting", object), ("result", None)):
        rows = [entry if isinstance(entry, dict) else {} for entry in slots[column]]
        frame = pd.DataFrame(rows, index=slots.index, dtype=kind).add_prefix(f"{column}/")
        spread.append(frame if kind is None else frame.assign(**{name: column_of(frame[name]) for name in frame}))
    return pd.concat([plain, *spread], axis="columns")
