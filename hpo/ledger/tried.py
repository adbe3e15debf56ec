"""The finished trials of one tuning run, as its sampler and its pruner know them."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.ledger.work import DIVERGED, NO_SCORE, PRUNED, Past, Setting, Tried
from hpo.storage import curves
from hpo.storage.schema import slots


def tried(
    connection: Connection, study: int, configuration: str, repeat: int, pruning: bool
) -> tuple[list[Tried], list[Setting]]:
    """(finished trials, settings in training), by slot; see `Ledger.tried`."""
    query = sa.select(
        sa.cast(slots.c.setting, sa.Text),
        slots.c.value,
        slots.c.state,
        slots.c.cause,
        sa.case((slots.c.cause == PRUNED, sa.cast(slots.c.result, sa.Text))).label("result"),
    ).where(_tuning(study, configuration, repeat), slots.c.setting.is_not(None))
    rows = connection.execute(query.order_by(slots.c.slot)).all()
    settings = json.loads(f"[{','.join(row[0] for row in rows)}]")  # at once: they share their keys' memory
    found = list(zip(settings, rows, strict=True))
    finished = [Tried(setting, row.value, _stopped(row, pruning)) for setting, row in found if row.state == "done"]
    return finished, [setting for setting, row in found if row.state in ("leased", "open")]


def past(connection: Connection, study: int, configuration: str, repeat: int, metric: str) -> list[Past]:
    """The finished trials with their curves of `metric`, by slot."""
    query = sa.select(slots.c.id, slots.c.value, slots.c.cause, slots.c.result)
    done = sa.and_(_tuning(study, configuration, repeat), slots.c.state == "done")
    rows = connection.execute(query.where(done).order_by(slots.c.slot)).all()
    by_slot = curves.of(connection, [row.id for row in rows], metric)
    found = []
    for row in rows:
        curve = by_slot.get(row.id, [])
        epochs = int((row.result or {}).get("epochs", len(curve)))
        found.append(Past(curve, row.value, epochs, row.cause == PRUNED))
    return found


def _tuning(study: int, configuration: str, repeat: int) -> sa.ColumnElement[bool]:
    return sa.and_(
        slots.c.study_id == study,
        slots.c.configuration == configuration,
        slots.c.repeat == repeat,
        slots.c.phase == "tune",
    )


def _stopped(row: Any, pruning: bool) -> int | None:
    """As `Tried.stopped`.

    Where trials are pruned few are trained to the end, and one that diverged or has no score would soon count among the
    best of them.
    """
    if row.cause == PRUNED:
        return int(json.loads(row.result)["epochs"])
    return 0 if pruning and row.cause in (DIVERGED, NO_SCORE) else None
