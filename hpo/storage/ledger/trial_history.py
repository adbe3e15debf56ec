"""The finished trials of tuning runs, as their samplers and their pruners know them."""

import json
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import curves
from hpo.storage.schema import slots
from hpo.trials import DIVERGED, NO_SCORE, PRUNED, FinishedTrial, TrialCurve


def finished_trials(
    connection: Connection, study: int, configuration: str, tuning_runs: Collection[int], batch: int, pruning: bool
) -> dict[int, tuple[list[FinishedTrial], range]]:
    """See `Ledger.finished_trials`."""
    tuning = _tuning(study, configuration, tuning_runs)
    query = sa.select(
        sa.cast(slots.c.setting, sa.Text),
        slots.c.tuning_run,
        slots.c.value,
        slots.c.cause,
        sa.case((slots.c.cause == PRUNED, sa.cast(slots.c.result, sa.Text))).label("result"),
    ).where(tuning, slots.c.batch < batch, slots.c.state == "done")
    rows = connection.execute(query.order_by(slots.c.tuning_run, slots.c.slot)).all()
    settings = json.loads(f"[{','.join(row[0] for row in rows)}]")  # at once: they share their keys' memory
    known: dict[int, list[FinishedTrial]] = {tuning_run: [] for tuning_run in tuning_runs}
    for setting, row in zip(settings, rows, strict=True):
        known[row.tuning_run].append(FinishedTrial(setting, row.value, _stopped(row, pruning)))
    ends = sa.select(slots.c.tuning_run, sa.func.min(slots.c.slot), sa.func.max(slots.c.slot))
    own = connection.execute(ends.where(tuning, slots.c.batch == batch).group_by(slots.c.tuning_run))
    return {tuning_run: (known[tuning_run], range(first, last + 1)) for tuning_run, first, last in own}


def trial_curves(
    connection: Connection, study: int, configuration: str, tuning_runs: Collection[int], batch: int, metric: str
) -> dict[int, list[TrialCurve]]:
    """By tuning run the finished trials of the batches before `batch` with their curves of `metric`, by slot."""
    query = sa.select(slots.c.id, slots.c.tuning_run, slots.c.value, slots.c.cause, slots.c.result)
    done = sa.and_(_tuning(study, configuration, tuning_runs), slots.c.batch < batch, slots.c.state == "done")
    rows = connection.execute(query.where(done).order_by(slots.c.tuning_run, slots.c.slot)).all()
    by_slot = curves.of(connection, [row.id for row in rows], metric)
    found: dict[int, list[TrialCurve]] = {tuning_run: [] for tuning_run in tuning_runs}
    for row in rows:
        curve = by_slot.get(row.id, [])
        epochs = int((row.result or {}).get("epochs", len(curve)))
        found[row.tuning_run].append(TrialCurve(curve, row.value, epochs, row.cause == PRUNED))
    return found


def _tuning(study: int, configuration: str, tuning_runs: Collection[int]) -> sa.ColumnElement[bool]:
    return sa.and_(
        slots.c.study_id == study,
        slots.c.configuration == configuration,
        slots.c.tuning_run.in_(sorted(tuning_runs)),
        slots.c.phase == "tune",
    )


def _stopped(row: Any, pruning: bool) -> int | None:
    """As `FinishedTrial.stopped_epoch`.

    Where trials are pruned few are trained to the end, and one that diverged or has no score would soon count among the
    best of them.
    """
    if row.cause == PRUNED:
        return int(json.loads(row.result)["epochs"])
    return 0 if pruning and row.cause in (DIVERGED, NO_SCORE) else None
