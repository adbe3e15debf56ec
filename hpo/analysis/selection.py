"""Selection: which slots of a record a report rests on, as rows of plain Python values."""

from typing import Any

import pandas as pd

from hpo.analysis.paired_tests import Direction
from hpo.analysis.record import Record

Row = dict[str, Any]
DIVERGED, PRUNED, NO_SCORE = "diverged", "pruned", "without a finite score"


def rows(frame: pd.DataFrame) -> list[Row]:
    """A frame's rows as dicts; `result` and `setting` become empty dicts where there are none."""
    records: list[Row] = frame.to_dict("records")
    for row in records:
        for column in ("result", "setting"):
            if not isinstance(row.get(column), dict):
                row[column] = {}
        if not isinstance(row.get("cause"), str):
            row["cause"] = None
    return records


def tuning_slots(record: Record, configuration: str) -> list[Row]:
    """Every tuning slot of a configuration, finished or not."""
    slots = record.slots
    return rows(slots[(slots.configuration == configuration) & (slots.phase == "tune")])


def newest_reruns(record: Record, configuration: str) -> list[Row]:
    """The rerun slots of a configuration's newest round, for every tuning run."""
    reruns = _reruns(record, configuration)
    newest = reruns.groupby("tuning_run")["round"].transform("max")
    return rows(reruns[reruns["round"] == newest])


def superseded(slots: pd.DataFrame) -> "pd.Series[bool]":
    """Which rerun slots belong to an older round: tuning has chosen another setting since."""
    newest = slots.groupby(["configuration", "tuning_run"])["round"].transform("max")
    return slots["round"] < newest


def rounds_read(record: Record, configuration: str) -> int:
    """How often the test set was read for a configuration: rounds with at least one finished rerun."""
    reruns = _reruns(record, configuration)
    done = reruns[reruns.state == "done"]
    return int(done.groupby("tuning_run")["round"].nunique().max()) if len(done) else 0


def ranked(trials: list[Row], direction: Direction) -> list[Row]:
    """Finished trials that did not diverge, best first; ties: lower validation loss, then lower slot.

    Those that were pruned come last.
    """
    sign = -1.0 if direction == "maximize" else 1.0
    valued = [row for row in trials if row["state"] == "done" and row["cause"] != DIVERGED]
    return sorted(
        (row for row in valued if row["value"] == row["value"]),
        key=lambda row: (
            row["cause"] == PRUNED,
            sign * row["value"],
            row["result"].get("validation_loss", float("inf")),
            row["slot"],
        ),
    )


def rerun_curves(record: Record, metric: str) -> pd.DataFrame:
    """One metric by epoch over the newest reruns: columns configuration, seed, epoch, value (finite only)."""
    slots = record.slots
    reruns = slots[(slots.phase == "rerun") & (slots.state == "done")]
    newest = slots[slots.phase == "rerun"].groupby(["configuration", "tuning_run"])["round"].transform("max")
    reruns = reruns[reruns["round"] == newest.reindex(reruns.index)]
    curves = record.curves[record.curves.metric == metric]
    merged = curves.merge(reruns[["id", "configuration", "seed"]], left_on="slot_id", right_on="id")
    finite = merged[merged["value"].abs() < float("inf")]
    return finite[["configuration", "seed", "epoch", "value"]]


def _reruns(record: Record, configuration: str) -> pd.DataFrame:
    slots = record.slots
    return slots[(slots.configuration == configuration) & (slots.phase == "rerun")]
