"""Who is at work on a study and what failed last: one small read for a table that is redrawn every few seconds."""

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage.database import now, run_with_retry
from hpo.storage.ledger import Ledger
from hpo.storage.ledger.worker_ids import has_ended
from hpo.storage.schema import failures, slots, studies, workers

LEASE = 60.0  # seconds: a worker renews what it holds four times in this, so one silent for longer is cut off


class Activity(NamedTuple):
    """What a person wants to know beside the counts.

    Attributes:
        planned: trials, seeds and tuning_runs. workers: those present, as dicts with host, pid, device and seen
            (seconds ago), the first to start first.
        exceptions: configuration → the traceback of its newest attempt that an exception ended.
    """

    planned: dict[str, int]
    workers: list[dict[str, Any]]
    exceptions: dict[str, str]


def read_activity(ledger: Ledger, seconds: float = LEASE) -> Activity:
    """A look at a study in one transaction.

    A worker is present if it was seen within the last `seconds`: it is when it starts and whenever it renews a lease.
    One of this machine whose process has ended is left out.
    """

    def look(connection: Connection) -> Activity:
        planned = sa.select(studies.c.trials, studies.c.seeds, studies.c.tuning_runs).where(studies.c.id == ledger.id)
        numbers = dict(connection.execute(planned).mappings().first() or {})  # deleted a moment ago: nothing
        return Activity(numbers, _workers(connection, ledger.id, seconds), _exceptions(connection, ledger.id))

    return run_with_retry(ledger.engine, look)


def _workers(connection: Connection, study: int, seconds: float) -> list[dict[str, Any]]:
    time = now(connection)
    recent = sa.and_(workers.c.study_id == study, workers.c.seen >= time - seconds)
    columns = (workers.c.worker_id, workers.c.host, workers.c.pid, workers.c.device, workers.c.seen)
    rows = connection.execute(sa.select(*columns).where(recent).order_by(workers.c.started, workers.c.worker_id))
    return [
        {"host": row.host, "pid": row.pid, "device": row.device, "seen": round(max(0.0, time - row.seen), 1)}
        for row in rows
        if not has_ended(row.worker_id)
    ]


def _exceptions(connection: Connection, study: int) -> dict[str, str]:
    mine = sa.and_(failures.c.study_id == study, failures.c.cause == "exception")
    newest = (
        sa.select(slots.c.configuration, sa.func.max(failures.c.id).label("id"))
        .join(slots, slots.c.id == failures.c.slot_id)
        .where(mine)
        .group_by(slots.c.configuration)
        .subquery()
    )
    query = sa.select(newest.c.configuration, failures.c.message).join(failures, newest.c.id == failures.c.id)
    return {row.configuration: row.message for row in connection.execute(query)}
