"""Record: everything a report is made from, read from the database once."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from hpo.analysis.float32 import shorten_results, shortest_decimals

COLUMNS = {
    "slots": [
        "id",
        "configuration",
        "tuning_run",
        "phase",
        "round",
        "slot",
        "seed",
        "state",
        "attempt",
        "worker_id",
        "lease_until",
        "setting",
        "value",
        "cause",
        "result",
        "seconds",
        "trial",
        "started",
        "finished",
    ],
    "failures": ["slot_id", "attempt", "cause", "message", "setting", "time"],
    "workers": ["worker_id", "host", "pid", "device", "environment", "started", "seen"],
    "curves": ["slot_id", "epoch", "metric", "value"],
}
NUMERIC = {"value", "seconds", "started", "finished", "time", "epoch"}


class Record(NamedTuple):
    """A study as the ledger holds it at one moment.

    Attributes:
        study: name, definition, digest, text, fingerprint, trials, seeds, tuning_runs, created, notes.
        slots: one row a trial or rerun, in the order of their ids; `setting` and `result` are dicts or None.
        curves: one row a (slot_id, epoch, metric) with its value. Values are without the noise of float32.
        failures: one row a failed or lost attempt. workers: one row a process that took part.
    """

    study: dict[str, Any]
    slots: pd.DataFrame
    curves: pd.DataFrame
    failures: pd.DataFrame
    workers: pd.DataFrame


def make_record(export: Mapping[str, Any], curves: Mapping[str, Any]) -> Record:
    """A Record from `Ledger.export()` and the columns of `curves.read()`; rows are put in a fixed order."""
    return Record(
        study=dict(export["study"]),
        slots=_frame("slots", export["slots"], ["id"]),
        curves=_frame("curves", curves, ["slot_id", "epoch", "metric"]),
        failures=_frame("failures", export["failures"], ["slot_id", "attempt"]),
        workers=_frame("workers", export["workers"], ["started", "worker_id"]),
    )


def read_record(ledger: Any) -> Record:
    """Reads all of a study from its `hpo.storage.ledger.Ledger`."""
    from hpo.storage import curves

    export = ledger.export()
    return make_record(export, curves.read(ledger.engine, export["study"]["name"]))


def _frame(name: str, rows: Any, order: list[str]) -> pd.DataFrame:
    columns = COLUMNS[name]
    frame = pd.DataFrame(rows if isinstance(rows, Mapping) else list(rows), columns=columns)
    for column in NUMERIC & set(columns):
        frame[column] = pd.to_numeric(frame[column]).astype(float)
    if "value" in columns:
        frame["value"] = shortest_decimals(frame["value"])
    if "result" in columns:
        frame["result"] = pd.Series(shorten_results(frame["result"].tolist()), dtype=object)
    if name == "curves":
        frame["epoch"] = frame["epoch"].astype(int)
    return frame.sort_values(order, kind="stable", ignore_index=True)
