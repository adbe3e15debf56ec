"""Reading the progress of a study, in the caller's transaction."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage.ledger.scheduler import Group
from hpo.storage.ledger.worker_ids import has_ended
from hpo.storage.schema import failures, slots, workers
from hpo.storage.transactions import now
from hpo.trials import DIVERGED, NO_SCORE, PRUNED

ENDS = (DIVERGED, PRUNED, NO_SCORE)  # causes that a finished slot may have
KEY = ("configuration", "tuning_run", "phase", "round", "batch")
_COUNTED = ("trials_total", "trials_done", "reruns_total", "reruns_done", "leased", "failed", *ENDS)


def group_columns(table: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """What rows of slots are grouped by, the numbers of open, leased and interrupted ones, and the lowest of each.

    Returns:
        The columns of a `Group` from `configuration` to `batch`, from `open` to `interrupted`, and from `first` on.
    """
    is_open, is_leased = table.c.state == "open", table.c.state == "leased"
    is_interrupted, lowest = sa.and_(is_open, table.c.started.is_not(None)), sa.func.min(table.c.slot)
    numbers = [sa.func.count().filter(state) for state in (is_open, is_leased, is_interrupted)]
    return [table.c[name] for name in KEY], numbers, [lowest, lowest.filter(is_open), lowest.filter(is_interrupted)]


def groups(connection: Connection, study: int, order: Sequence[str]) -> list[Group]:
    """The groups of every configuration, tuning run and phase, of their newest rounds, in the order of `order`.

    A configuration that is not in `order` was added after this process opened the study, and is left to others.
    """
    key, numbers, lowest = group_columns(slots)
    # Grouped by the table's key only, in its order, and states counted by filters, so that the database sorts nothing.
    query = sa.select(*key, sa.func.count(), *numbers, *lowest).where(slots.c.study_id == study)
    rows = connection.execute(query.group_by(*key).order_by(*key)).all()
    return in_order([Group(*row) for row in _in_newest_rounds(rows)], order)


def in_order(found: Sequence[Group], order: Sequence[str]) -> list[Group]:
    positions = {name: position for position, name in enumerate(order)}
    found = [group for group in found if group.configuration in positions]
    return sorted(found, key=lambda group: (positions[group.configuration], group.tuning_run, group.phase, group.batch))


def counts(connection: Connection, study: int, order: Sequence[str], direction: str) -> dict[str, dict[str, Any]]:
    """See `StoredStudy.counts`."""
    end = sa.case((slots.c.cause.in_(ENDS), slots.c.cause))
    key = (slots.c.configuration, slots.c.tuning_run, slots.c.phase, slots.c.round, slots.c.state, end)
    best, better = (sa.func.max, max) if direction == "maximize" else (sa.func.min, min)
    numbers = (sa.func.count(), best(slots.c.value), sa.func.sum(slots.c.seconds))
    query = sa.select(*key, *numbers).where(slots.c.study_id == study).group_by(*key)
    found: dict[str, dict[str, Any]] = {
        name: {**dict.fromkeys(_COUNTED, 0), "failures": {}, "best": None, "seconds": 0.0} for name in order
    }
    known = slots.c.configuration.in_(order)  # others were added after this process opened the study
    rows = _in_newest_rounds(connection.execute(query.where(known)).all())
    for configuration, _, phase, _, state, cause, count, value, seconds in rows:
        entry, kind = found[configuration], "trials" if phase == "tune" else "reruns"
        entry[f"{kind}_total"] += count
        if state == "done":
            entry[f"{kind}_done"] += count
            entry["seconds"] += seconds or 0.0
            if cause is not None:
                entry[cause] += count
        elif state in ("leased", "failed"):
            entry[state] += count
        if phase == "tune" and state == "done" and value is not None and cause != PRUNED:
            entry["best"] = value if entry["best"] is None else better(entry["best"], value)
    causes = sa.select(slots.c.configuration, failures.c.cause, sa.func.count())
    causes = causes.join_from(failures, slots, slots.c.id == failures.c.slot_id).where(
        failures.c.study_id == study, known
    )
    for configuration, cause, count in connection.execute(causes.group_by(slots.c.configuration, failures.c.cause)):
        found[configuration]["failures"][cause] = count
    return found


def first_lease_ends(connection: Connection, study: int) -> Sequence[Any]:
    """(worker id, when its first lease ends) of all workers that hold slots."""
    leased = sa.and_(slots.c.study_id == study, slots.c.state == "leased")
    query = sa.select(slots.c.worker_id, sa.func.min(slots.c.lease_until)).where(leased).group_by(slots.c.worker_id)
    return connection.execute(query).all()


def workers_since(connection: Connection, study: int, since: float) -> list[dict[str, Any]]:
    """See `Activity.workers`; `since` is a time by the database's clock."""
    recent = sa.and_(workers.c.study_id == study, workers.c.seen >= since)
    fields = ("host", "pid", "device", "launch", "training")
    query = (
        sa.select(workers.c.worker_id, workers.c.seen, *(workers.c[name] for name in fields))
        .where(recent)
        .order_by(workers.c.started, workers.c.worker_id)
    )
    rows, time = connection.execute(query).all(), now(connection)
    return [
        {
            **{name: getattr(row, name) for name in fields},
            "seen": round(max(0.0, time - row.seen), 1),
        }
        for row in rows
        if not has_ended(row.worker_id)
    ]


def newest_exceptions(connection: Connection, study: int, order: Sequence[str]) -> dict[str, str]:
    """See `Activity.exceptions`; those of configurations that are not in `order` are left out, as in `groups`."""
    known = slots.c.configuration.in_(order)
    exceptions = sa.and_(failures.c.study_id == study, failures.c.cause == "exception", known)
    newest = (
        sa.select(slots.c.configuration, sa.func.max(failures.c.id).label("id"))
        .join(slots, slots.c.id == failures.c.slot_id)
        .where(exceptions)
        .group_by(slots.c.configuration)
        .subquery()
    )
    query = sa.select(newest.c.configuration, failures.c.message).join(failures, newest.c.id == failures.c.id)
    return {row.configuration: row.message for row in connection.execute(query)}


def _in_newest_rounds(rows: Sequence[Any]) -> list[Any]:
    """The rows (configuration, tuning run, phase, round, …) of the newest round of each of the first three."""
    newest: dict[tuple[Any, ...], int] = {}
    for row in rows:
        newest[row[:3]] = max(newest.get(row[:3], 0), row.round)
    return [row for row in rows if row.round == newest[row[:3]]]
