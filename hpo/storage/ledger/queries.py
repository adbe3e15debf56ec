"""The ledger read: how far a study is, and everything it holds."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage.ledger.scheduler import Group
from hpo.storage.schema import failures, slots, studies, workers
from hpo.trials import DIVERGED, NO_SCORE, PRUNED

ENDS = (DIVERGED, PRUNED, NO_SCORE)  # what may have become of a finished slot
_HIDDEN = {"study_id", "settings_assigned", "reported", "replacements", "batch"}


def groups(connection: Connection, study: int, order: Sequence[str]) -> list[Group]:
    """The state of every configuration, tuning run, phase and batch (newest rounds of reruns), ordered by `order`."""
    is_open, is_leased = slots.c.state == "open", slots.c.state == "leased"
    is_again, lowest = sa.and_(is_open, slots.c.started.is_not(None)), sa.func.min(slots.c.slot)
    parts = (
        *(sa.func.count(), *(sa.func.count().filter(part) for part in (is_open, is_leased, is_again))),
        *(lowest, lowest.filter(is_open), lowest.filter(is_again)),
    )
    # In the order of the table's key, and counted rather than grouped by what changes: nothing is sorted.
    key = (slots.c.configuration, slots.c.tuning_run, slots.c.phase, slots.c.round, slots.c.batch)
    rows = connection.execute(sa.select(*key, *parts).where(slots.c.study_id == study).group_by(*key).order_by(*key))
    found = [Group(*row) for row in rows]
    rounds = {
        (group.configuration, group.tuning_run, group.phase): group.round for group in found
    }  # the newest comes last
    newest = [group for group in found if group.round == rounds[group.configuration, group.tuning_run, group.phase]]
    places = {name: place for place, name in enumerate(order)}
    return sorted(newest, key=lambda group: (places[group.configuration], group.tuning_run, group.phase, group.batch))


def counts(connection: Connection, study: int, order: Sequence[str], direction: str) -> dict[str, dict[str, Any]]:
    """Per configuration, newest rounds only: see `Ledger.counts`."""
    key = (slots.c.configuration, slots.c.tuning_run, slots.c.phase)
    ends = sa.case((slots.c.cause.in_(ENDS), slots.c.cause))
    columns = (*key, slots.c.round, slots.c.state, ends)
    best = sa.func.max(slots.c.value) if direction == "maximize" else sa.func.min(slots.c.value)
    query = sa.select(*columns, sa.func.count(), best).where(slots.c.study_id == study).group_by(*columns)
    rows = connection.execute(query).all()
    newest: dict[tuple[str, int, str], int] = {}
    for row in rows:
        newest[row[:3]] = max(newest.get(row[:3], 0), row.round)
    empty = dict.fromkeys(("trials_total", "trials_done", "reruns_total", "reruns_done", "leased", "failed"), 0)
    found: dict[str, dict[str, Any]] = {
        name: {**empty, **dict.fromkeys(ENDS, 0), "failures": {}, "best": None} for name in order
    }
    better = max if direction == "maximize" else min
    for configuration, tuning_run, phase, number, state, end, count, value in rows:
        if number != newest[configuration, tuning_run, phase]:
            continue
        entry, kind = found[configuration], "trials" if phase == "tune" else "reruns"
        entry[f"{kind}_total"] += count
        if state == "done":
            entry[f"{kind}_done"] += count
            if end is not None:
                entry[end] += count
        elif state in ("leased", "failed"):
            entry[state] += count
        if phase == "tune" and state == "done" and value is not None and end != PRUNED:
            entry["best"] = value if entry["best"] is None else better(entry["best"], value)
    causes = sa.select(slots.c.configuration, failures.c.cause, sa.func.count())
    causes = causes.join_from(failures, slots, slots.c.id == failures.c.slot_id).where(failures.c.study_id == study)
    for configuration, cause, count in connection.execute(causes.group_by(slots.c.configuration, failures.c.cause)):
        found[configuration]["failures"][cause] = count
    return found


def newest(connection: Connection, study: int) -> float | None:
    """When the last run ended, in Unix seconds by the database's clock; None before the first."""
    return connection.scalar(sa.select(sa.func.max(slots.c.finished)).where(slots.c.study_id == study))


def export(connection: Connection, study: int) -> dict[str, Any]:
    """The study's row and all its slots, failures and workers as plain dicts; see `Ledger.export`."""
    row = connection.execute(sa.select(studies).where(studies.c.id == study)).mappings().one()

    def rows(table: sa.Table, order: sa.Column[Any]) -> list[dict[str, Any]]:
        found = connection.execute(sa.select(table).where(table.c.study_id == study).order_by(order)).mappings()
        return [{key: value for key, value in entry.items() if key not in _HIDDEN} for entry in found]

    return {
        "study": {key: value for key, value in row.items() if key not in _HIDDEN | {"id"}},
        "slots": rows(slots, slots.c.id),
        "failures": rows(failures, failures.c.id),
        "workers": rows(workers, workers.c.started),
    }
