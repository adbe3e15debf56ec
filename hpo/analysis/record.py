"""Record: everything a report is made from, read from the database once."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

COLUMNS = {
    "slots": (
        *("id", "configuration", "tuning_run", "phase", "round", "slot", "seed", "state", "attempt", "worker_id"),
        *("lease_until", "setting", "value", "cause", "result", "seconds", "trial", "started", "finished"),
    ),
    "failures": ("slot_id", "attempt", "cause", "message", "setting", "time"),
    "workers": ("worker_id", "host", "pid", "device", "environment", "started", "seen"),
    "curves": ("slot_id", "epoch", "metric", "value"),
}
ORDER = {
    "slots": ["id"],
    "failures": ["slot_id", "attempt"],
    "workers": ["started", "worker_id"],
    "curves": ["slot_id", "epoch", "metric"],
}
NUMERIC = {"value", "seconds", "started", "finished", "time"}


class Record(NamedTuple):
    """A study as it is in the ledger at one moment.

    Attributes:
        study: name, definition, digest, text, fingerprint, trials, seeds, tuning_runs, created, notes.
        slots: one row per trial or rerun, in the order of their ids; `setting` and `result` are dicts or None.
        curves: one row per (slot_id, epoch, metric) with its value, without the digits that float64 adds to float32.
        failures: one row per failed or lost attempt. workers: one row per process that took part.
    """

    study: dict[str, Any]
    slots: pd.DataFrame
    curves: pd.DataFrame
    failures: pd.DataFrame
    workers: pd.DataFrame


def make_record(export: Mapping[str, Any], curves: Mapping[str, Any]) -> Record:
    """A Record from `Ledger.export()` and the columns of `curves.read()`; rows are sorted."""
    tables = {**export, "curves": curves}
    return Record(study=dict(export["study"]), **{name: _frame(name, tables[name]) for name in COLUMNS})


def read_record(ledger: Any) -> Record:
    """Reads everything about a study from its `hpo.storage.ledger.Ledger`."""
    from hpo.storage import curves

    export = ledger.export()
    return make_record(export, curves.read(ledger.engine, export["study"]["name"]))


def _frame(name: str, rows: Any) -> pd.DataFrame:
    columns = list(COLUMNS[name])
    frame = pd.DataFrame(rows if isinstance(rows, Mapping) else list(rows), columns=columns)
    for column in NUMERIC.intersection(columns):
        frame[column] = pd.to_numeric(frame[column]).astype(float)
    if "value" in columns:
        frame["value"] = shortest_decimals(frame["value"])
    if "result" in columns:
        frame["result"] = pd.Series(shorten_results(frame["result"].tolist()), dtype=object)
    if name == "curves":
        frame["epoch"] = frame["epoch"].astype(int)
    return frame.sort_values(ORDER[name], kind="stable", ignore_index=True)


def shortest_decimals(values: ArrayLike) -> NDArray[np.float64]:
    """Replaces every value that float32 holds exactly by its shortest decimal: 0.4762499928474426 by 0.47625.

    Args:
        values: numbers of any shape; all others, NaN and infinities included, stay as they are.
    """
    numbers = np.array(values, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        single = numbers.astype(np.float32)
    exact = single == numbers
    numbers[exact] = single[exact].astype(str).astype(np.float64)
    return numbers


def shorten_results(results: Sequence[Any]) -> list[Any]:
    """`shortest_decimals` for the floats in a list of dicts of scalars; entries that are no dict stay as they are."""
    copies = [dict(entry) if isinstance(entry, dict) else entry for entry in results]
    dicts = [entry for entry in copies if isinstance(entry, dict)]
    floats = [(entry, key) for entry in dicts for key, value in entry.items() if isinstance(value, float)]
    for (entry, key), value in zip(floats, shortest_decimals([entry[key] for entry, key in floats]), strict=True):
        entry[key] = float(value)
    return copies
