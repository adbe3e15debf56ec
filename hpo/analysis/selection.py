"""Which slots of a record a report uses, as rows of plain Python values."""

from collections import Counter
from typing import Any

import pandas as pd

from hpo.analysis.paired_tests import Direction
from hpo.analysis.record import Record
from hpo.trials import DIVERGED, PRUNED, trial_rank

Row = dict[str, Any]


def rows(frame: pd.DataFrame) -> list[Row]:
    """A frame's rows as dicts; a missing `result` or `setting` becomes an empty dict."""
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
    """The rerun slots in the newest round of every tuning run of a configuration."""
    reruns = _reruns(record, configuration)
    return rows(reruns[~superseded(reruns)])


def superseded(reruns: pd.DataFrame) -> "pd.Series[bool]":
    """Which rerun slots belong to an older round, whose setting tuning has replaced since."""
    return reruns["round"] < reruns.groupby(["configuration", "tuning_run"])["round"].transform("max")


def rounds_read(record: Record, configuration: str) -> int:
    """How often the test set was read for a configuration: rounds with at least one finished rerun."""
    reruns = _reruns(record, configuration)
    done = reruns[reruns.state == "done"]
    return int(done.groupby("tuning_run")["round"].nunique().max()) if len(done) else 0


def failed_attempts(record: Record, configuration: str, phase: str) -> dict[str, int]:
    """Cause → attempts of trials ("tune") or reruns ("rerun") that ended so without a result."""
    slots = record.slots[(record.slots.configuration == configuration) & (record.slots.phase == phase)]
    return dict(sorted(Counter(record.failures[record.failures.slot_id.isin(slots.id)].cause).items()))


def ranked(trials: list[Row], direction: Direction) -> list[Row]:
    """Finished trials with a score that did not diverge, best first (see `trial_rank`); pruned ones come last."""
    scored = [
        row for row in trials if row["state"] == "done" and row["cause"] != DIVERGED and not pd.isna(row["value"])
    ]
    return sorted(
        scored,
        key=lambda row: (row["cause"] == PRUNED, trial_rank(row["value"], row["result"], row["slot"], direction)),
    )


def rerun_curves(record: Record, metric: str) -> pd.DataFrame:
    """One metric by epoch over the newest reruns: columns configuration, seed, epoch, value (finite only)."""
    reruns = record.slots[record.slots.phase == "rerun"]
    newest = reruns[(reruns.state == "done") & ~superseded(reruns)]
    curves = record.curves[record.curves.metric == metric]
    merged = curves.merge(newest[["id", "configuration", "seed"]], left_on="slot_id", right_on="id")
    finite = merged[merged["value"].abs() < float("inf")]
    return finite[["configuration", "seed", "epoch", "value"]]


def _reruns(record: Record, configuration: str) -> pd.DataFrame:
    slots = record.slots
    return slots[(slots.configuration == configuration) & (slots.phase == "rerun")]
