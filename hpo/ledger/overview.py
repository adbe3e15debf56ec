"""The ledger read: how far a study is, and everything it holds."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.ledger.schedule import STARTUP, Group
from hpo.schema import failures, slots, studies, workers

PARTS = ("total", "open", "leased", "again", "startup_open", "startup_leased")  # Group's fields, in order
_HIDDEN = {"study_id", "settled", "reported", "renewals"}


def groups(connection: Connection, study: int, order: Sequence[str]) -> list[Group]:
    """How every configuration, repeat and phase stands, newest rounds only, in the order of `order`."""
    startup = sa.case((slots.c.slot < STARTUP, 1), else_=0)
    fresh = sa.case((slots.c.started.is_(None), 1), else_=0)
    columns = (slots.c.configuration, slots.c.repeat, slots.c.phase, slots.c.round, slots.c.state)
    query = sa.select(*columns, startup, fresh, sa.func.count()).where(slots.c.study_id == study)
    rows = connection.execute(query.group_by(*columns, startup, fresh)).all()
    newest: dict[tuple[str, int, str], int] = {}
    for row in rows:
        newest[row[:3]] = max(newest.get(row[:3], 0), row.round)
    sums: dict[tuple[str, int, str], dict[str, int]] = {}
    for configuration, repeat, phase, number, state, early, unbegun, count in rows:
        key = (configuration, repeat, phase)
        if number != newest[key]:
            continue
        counts = sums.setdefault(key, {})
        parts = ["total", state]
        parts += [f"startup_{state}"] if early else []
        parts += ["again"] if state == "open" and not unbegun else []
        for part in parts:
            counts[part] = counts.get(part, 0) + count
    found = [Group(*key, *(counts.get(part, 0) for part in PARTS)) for key, counts in sums.items()]
    return sorted(found, key=lambda group: (order.index(group.configuration), group.repeat, group.phase))


def counts(connection: Connection, study: int, order: Sequence[str], direction: str) -> dict[str, dict[str, Any]]:
    """Per configuration, newest rounds only: see `Ledger.counts`."""
    rows = connection.execute(
        sa.select(
            slots.c.id, slots.c.configuration, slots.c.repeat, slots.c.phase, slots.c.round,
            slots.c.state, slots.c.value, slots.c.cause,
        ).where(slots.c.study_id == study)
    ).all()  # fmt: skip
    newest: dict[tuple[str, int, str], int] = {}
    for row in rows:
        key = (row.configuration, row.repeat, row.phase)
        newest[key] = max(newest.get(key, 0), row.round)
    empty = dict.fromkeys(("trials_total", "trials_done", "reruns_total", "reruns_done", "leased", "failed"), 0)
    found: dict[str, dict[str, Any]] = {name: {**empty, "diverged": 0, "failures": {}, "best": None} for name in order}
    better = max if direction == "maximize" else min
    for row in rows:
        if row.round != newest[row.configuration, row.repeat, row.phase]:
            continue
        entry, kind = found[row.configuration], "trials" if row.phase == "tune" else "reruns"
        entry[f"{kind}_total"] += 1
        entry[f"{kind}_done"] += row.state == "done"
        entry["leased"] += row.state == "leased"
        entry["failed"] += row.state == "failed"
        entry["diverged"] += row.state == "done" and row.cause == "diverged"
        if row.phase == "tune" and row.state == "done" and row.value is not None:
            entry["best"] = row.value if entry["best"] is None else better(entry["best"], row.value)
    names = {row.id: row.configuration for row in rows}
    causes = sa.select(failures.c.slot_id, failures.c.cause).where(failures.c.study_id == study)
    for slot, cause in connection.execute(causes):
        if slot in names:
            by_cause = found[names[slot]]["failures"]
            by_cause[cause] = by_cause.get(cause, 0) + 1
    return found


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
