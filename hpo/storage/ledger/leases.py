"""The slots that workers hold: leased a population at a time, and locked in the order of their ids."""

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import bulk_sql
from hpo.storage.ledger.lost_workers import LEASED_ALONE, suspected
from hpo.storage.ledger.scheduler import Choice
from hpo.storage.schema import slots
from hpo.storage.transactions import now
from hpo.trials import Slot, Work

RELEASED: Mapping[str, Any] = {"state": "open", "worker_id": None, "lease_until": None}
IDS = (slots.c.id, slots.c.attempt)


def take(connection: Connection, study: int, choice: Choice, worker_id: str, seconds: float) -> Work | None:
    """Leases the open slots of `choice`, in its order."""
    parts = [
        sa.and_(
            *(slots.c.tuning_run == part.tuning_run, slots.c.round == part.round, slots.c.batch == part.batch),
            *(slots.c.slot >= part.first, slots.c.slot < part.last),
        )
        for part in choice.parts
    ]
    query = sa.select(slots).where(
        slots.c.study_id == study,
        slots.c.configuration == choice.configuration,
        slots.c.phase == choice.phase,
        slots.c.state == "open",
        sa.or_(*parts),
    )
    rows = connection.execute(query.order_by(slots.c.id).with_for_update(skip_locked=True)).all()
    if not rows:
        return None
    rows = _without_suspected(connection, rows)
    time = now(connection)
    leased: dict[str, Any] = {"state": "leased", "worker_id": worker_id, "lease_until": time + seconds, "started": time}
    change(connection, [row.id for row in rows], leased | {"attempt": slots.c.attempt + 1})
    taken = [Slot(*(getattr(row, name) for name in Slot._fields))._replace(attempt=row.attempt + 1) for row in rows]
    order = attrgetter("tuning_run", "slot") if choice.phase == "tune" else attrgetter("slot")
    return Work(choice.configuration, choice.phase, sorted(taken, key=order))


def _without_suspected(connection: Connection, rows: Sequence[Any]) -> Sequence[Any]:
    """The rows whose settings are not suspected of killing their workers; if all are, the one lost least often."""
    losses = suspected(connection, [row for row in rows if row.attempt >= LEASED_ALONE], LEASED_ALONE)
    return [row for row in rows if row.id not in losses] or [min(rows, key=lambda row: losses[row.id])]


def held(
    connection: Connection,
    study: int,
    worker_id: str,
    ids: Collection[int] | None = None,
    columns: Sequence[Any] = IDS,
) -> Sequence[Any]:
    """Locks the slots that a worker holds, all or those of `ids`, in the order of their ids; returns `columns`."""
    conditions = [slots.c.study_id == study, slots.c.worker_id == worker_id, slots.c.state == "leased"]
    if ids is not None:
        conditions.append(bulk_sql.among(connection, slots.c.id, ids))
    return connection.execute(sa.select(*columns).where(*conditions).order_by(slots.c.id).with_for_update()).all()


def held_in(
    connection: Connection, study: int, worker_id: str, attempts: Mapping[int, int], columns: Sequence[Any] = IDS
) -> list[Any]:
    """The rows of `held` that the worker holds in the given attempts (slot id → attempt)."""
    rows = held(connection, study, worker_id, attempts, columns)
    return [row for row in rows if row.attempt == attempts[row.id]]


def change(connection: Connection, ids: Collection[int], values: Mapping[str, Any]) -> None:
    """Sets columns of slots to the same values."""
    if ids:
        connection.execute(sa.update(slots).where(bulk_sql.among(connection, slots.c.id, ids)).values(values))
