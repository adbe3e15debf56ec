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
    "curves": ["slot_id", "metric", "epoch"],
}
TENS = 10.0 ** np.arange(23)
AT_ONCE = 50_000  # numbers, which the processor's cache can hold
NUMERIC = {"value", "seconds", "started", "finished", "time"}


class Record(NamedTuple):
    """A study as it is in the ledger at one moment.

    Attributes:
        study: name, definition, digest, text, fingerprint, trials, seeds, tuning_runs, created, notes.
        slots: one row per trial or rerun, in the order of their ids; `setting` and `result` are dicts or None.
        curves: one row per (slot_id, metric, epoch) with its value, without the digits that float64 adds to float32.
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
        frame["epoch"] = frame["epoch"].astype(np.int32)
        frame["metric"] = frame["metric"].astype("category")  # a byte a row, of which there may be many millions
        if _is_sorted(frame):
            return frame
    return frame.sort_values(ORDER[name], kind="stable", ignore_index=True)


def _is_sorted(curves: pd.DataFrame) -> bool:
    """Whether curves are in their order, as they are when they come from the database: sorting copies them."""
    if not curves["metric"].cat.categories.is_monotonic_increasing:
        return False
    columns = (curves["slot_id"].to_numpy(), curves["metric"].cat.codes.to_numpy(), curves["epoch"].to_numpy())
    rises, equal = np.zeros(max(len(curves) - 1, 0), dtype=bool), np.ones(max(len(curves) - 1, 0), dtype=bool)
    for column in columns:
        rises |= equal & (column[1:] > column[:-1])
        equal &= column[1:] == column[:-1]
    return bool((rises | equal).all())


def shortest_decimals(values: ArrayLike) -> NDArray[np.float64]:
    """Replaces every value that float32 holds exactly by its shortest decimal: 0.4762499928474426 by 0.47625.

    Args:
        values: numbers of any shape; all others, NaN and infinities included, stay as they are.
    """
    numbers = np.array(values, dtype=np.float64)
    flat = numbers.reshape(-1)
    for start in range(0, flat.size, AT_ONCE):
        part = flat[start : start + AT_ONCE]
        with np.errstate(over="ignore", invalid="ignore"):
            exact = np.flatnonzero(part.astype(np.float32) == part)
        part[exact] = _shortest(part[exact])
    return numbers


def _shortest(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shortest decimals of numbers that float32 holds: of 1, 2, … 9 digits the first that rounds to the number."""
    shortest, sizes = numbers.copy(), np.abs(numbers)
    # Quotients and products of whole numbers and powers of ten are rounded correctly up to 10^22.
    left = np.flatnonzero((sizes > 1e-12) & (sizes < 1e9))
    exponents = np.floor(np.log10(sizes[left])).astype(int)
    others = np.flatnonzero(((sizes <= 1e-12) & (sizes > 0)) | (np.isfinite(sizes) & (sizes >= 1e9)))
    for digits in range(1, 10):
        if not left.size:
            break
        decimals = digits - 1 - exponents
        up, down = TENS[np.maximum(decimals, 0)], TENS[np.maximum(-decimals, 0)]
        rounded = np.rint(numbers[left] * up / down) * down / up
        found = rounded.astype(np.float32) == numbers[left].astype(np.float32)
        shortest[left[found]] = rounded[found]
        left, exponents = left[~found], exponents[~found]
    others = np.concatenate([others, left])
    shortest[others] = numbers[others].astype(np.float32).astype(str).astype(np.float64)
    return shortest


def shorten_results(results: Sequence[Any]) -> list[Any]:
    """`shortest_decimals` for the floats in a list of dicts of scalars; entries that are no dict stay as they are."""
    copies = [dict(entry) if isinstance(entry, dict) else entry for entry in results]
    dicts = [entry for entry in copies if isinstance(entry, dict)]
    floats = [(entry, key) for entry in dicts for key, value in entry.items() if isinstance(value, float)]
    for (entry, key), value in zip(floats, shortest_decimals([entry[key] for entry, key in floats]), strict=True):
        entry[key] = float(value)
    return copies
