"""The finished trials of tuning runs, as samplers and pruners need them, in the caller's transaction."""

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
    trials: dict[int, list[FinishedTrial]] = {tuning_run: [] for tuning_run in tuning_runs}
    for setting, row in zip(settings, rows, strict=True):
        trials[row.tuning_run].append(FinishedTrial(setting, row.value, _stopped_epoch(row, pruning)))
    bounds = sa.select(slots.c.tuning_run, sa.func.min(slots.c.slot), sa.func.max(slots.c.slot))
    in_batch = connection.execute(bounds.where(tuning, slots.c.batch == batch).group_by(slots.c.tuning_run))
    return {tuning_run: (trials[tuning_run], range(first, last + 1)) for tuning_run, first, last in in_batch}


def trial_curves(
    connection: Connection, study: int, configuration: str, tuning_runs: Collection[int], batch: int, metric: str
) -> dict[int, list[TrialCurve]]:
    """See `Ledger.trial_curves`."""
    query = sa.select(slots.c.id, slots.c.tuning_run, slots.c.value, slots.c.cause, slots.c.result)
    query = query.where(_tuning(study, configuration, tuning_runs), slots.c.batch < batch, slots.c.state == "done")
    rows = connection.execute(query.order_by(slots.c.tuning_run, slots.c.slot)).all()
    by_slot = curves.read_metric(connection, [row.id for row in rows], metric)
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


def _stopped_epoch(row: Any, pruning: bool) -> int | None:
    """See `FinishedTrial.stopped_epoch`.

    Where trials are pruned, few are trained to the end: one that diverged or has no score would soon rank high among
    them.
    """
    if row.cause == PRUNED:
        return int(json.loads(row.result)["epochs"])
    return 0 if pruning and row.cause in (DIVERGED, NO_SCORE) else None
