"""Taking, holding, finishing and giving back slots, a population at a time, in the caller's transaction."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import bulk_sql, curves
from hpo.storage.database import now
from hpo.storage.ledger.scheduler import Choice
from hpo.storage.schema import slots, studies, workers
from hpo.trials import Outcome, Setting, Slot, Work


def settings_assigned(connection: Connection, study: int) -> bool:
    return bool(connection.scalar(sa.select(studies.c.settings_assigned).where(studies.c.id == study)))


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
    time = now(connection)
    leased: dict[str, Any] = {"state": "leased", "worker_id": worker_id, "lease_until": time + seconds, "started": time}
    connection.execute(
        sa.update(slots)
        .where(bulk_sql.among(connection, slots.c.id, [row.id for row in rows]))
        .values(leased | {"attempt": slots.c.attempt + 1})
    )
    by_slot = (lambda row: (row.tuning_run, row.slot)) if choice.phase == "tune" else (lambda row: row.slot)
    found = [
        Slot(
            row.id,
            row.slot,
            row.seed,
            row.attempt + 1,
            row.setting,
            row.trial,
            row.tuning_run,
            row.replacements,
            row.batch,
        )
        for row in sorted(rows, key=by_slot)
    ]
    return Work(choice.configuration, "tune" if choice.phase == "tune" else "rerun", found)


def held(connection: Connection, worker_id: str, attempts: Mapping[int, int]) -> Sequence[Any]:
    """The rows of slot id → attempt that are leased by `worker_id` in that very attempt, locked."""
    query = sa.select(slots).where(
        bulk_sql.among(connection, slots.c.id, attempts), slots.c.worker_id == worker_id, slots.c.state == "leased"
    )
    rows = connection.execute(query.order_by(slots.c.id).with_for_update()).all()
    return [row for row in rows if row.attempt == attempts[row.id]]


def _still_held(connection: Connection, worker_id: str, attempts: Mapping[int, int]) -> set[int]:
    """The ids among `held`, without reading the rest of the rows."""
    mine = sa.and_(
        bulk_sql.among(connection, slots.c.id, attempts), slots.c.worker_id == worker_id, slots.c.state == "leased"
    )
    rows = connection.execute(sa.select(slots.c.id, slots.c.attempt).where(mine).order_by(slots.c.id).with_for_update())
    return {slot for slot, attempt in rows if attempt == attempts[slot]}


def assign(connection: Connection, worker_id: str, work: Work, settings: Sequence[Setting]) -> Work:
    """Fills in settings in the order of the slots that have none; keeps the slots that are still held."""
    fresh = iter(settings)
    filled = [slot if slot.setting is not None else slot._replace(setting=next(fresh)) for slot in work.slots]
    mine = _still_held(connection, worker_id, {slot.id: slot.attempt for slot in filled})
    bulk_sql.update(connection, slots, [{"id": slot.id, "setting": slot.setting} for slot in filled if slot.id in mine])
    return work.with_slots([slot for slot in filled if slot.id in mine])


def note_trials(connection: Connection, worker_id: str, trials: Mapping[int, int]) -> None:
    mine = sa.and_(slots.c.worker_id == worker_id, slots.c.state == "leased")
    bulk_sql.update(connection, slots, [{"id": slot, "trial": trial} for slot, trial in trials.items()], mine)


def extend(connection: Connection, study: int, worker_id: str, ids: Sequence[int], seconds: float) -> list[int]:
    mine = sa.and_(
        bulk_sql.among(connection, slots.c.id, ids), slots.c.worker_id == worker_id, slots.c.state == "leased"
    )
    found = list(connection.scalars(sa.select(slots.c.id).where(mine).order_by(slots.c.id).with_for_update()))
    time = now(connection)
    connection.execute(
        sa.update(slots).where(bulk_sql.among(connection, slots.c.id, found)).values(lease_until=time + seconds)
    )
    here = sa.and_(workers.c.study_id == study, workers.c.worker_id == worker_id)
    connection.execute(sa.update(workers).where(here).values(seen=time))
    return found


def finish(connection: Connection, worker_id: str, outcomes: Sequence[Outcome]) -> list[int]:
    attempts = {outcome.id: outcome.attempt for outcome in outcomes}
    mine = _still_held(connection, worker_id, attempts)
    counted = [outcome for outcome in outcomes if outcome.id in mine]
    if counted:
        rows = [_row(outcome) for outcome in counted]
        bulk_sql.update(connection, slots, rows, state="done", lease_until=None, finished=now(connection))
        curves.insert(connection, [(outcome.id, outcome.curves) for outcome in counted])
    before = sa.select(slots.c.id, slots.c.attempt).where(
        bulk_sql.among(connection, slots.c.id, attempts), slots.c.worker_id == worker_id, slots.c.state == "done"
    )
    return [slot for slot, attempt in connection.execute(before.order_by(slots.c.id)) if attempts[slot] == attempt]


def release(connection: Connection, study: int, worker_id: str, ids: Sequence[int] | None) -> list[int]:
    mine = sa.and_(slots.c.study_id == study, slots.c.worker_id == worker_id, slots.c.state == "leased")
    if ids is not None:
        mine = sa.and_(mine, bulk_sql.among(connection, slots.c.id, ids))
    found = list(connection.scalars(sa.select(slots.c.id).where(mine).order_by(slots.c.id).with_for_update()))
    free: dict[str, Any] = {"state": "open", "worker_id": None, "lease_until": None}
    connection.execute(
        sa.update(slots)
        .where(bulk_sql.among(connection, slots.c.id, found))
        .values(free | {"attempt": slots.c.attempt - 1})
    )
    return found


def register(connection: Connection, study: int, worker_id: str, device: str, environment: Mapping[str, Any]) -> None:
    here = sa.and_(workers.c.study_id == study, workers.c.worker_id == worker_id)
    connection.execute(sa.delete(workers).where(here))
    place, pid, *_ = [*worker_id.split(":"), "0"]
    time = now(connection)
    row = {
        "study_id": study,
        "worker_id": worker_id,
        "host": place.split("+")[0],
        "pid": int(pid) if pid.isdigit() else 0,
        "device": device,
    }
    connection.execute(sa.insert(workers).values(**row, environment=dict(environment), started=time, seen=time))


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.id,
        "value": _finite(outcome.value),
        "cause": outcome.cause,
        "result": {name: _finite(value) for name, value in outcome.result.items()},
        "seconds": outcome.seconds,
    }


def _finite(value: Any) -> Any:
    """JSON and Optuna know no NaN and no infinity: both become None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
