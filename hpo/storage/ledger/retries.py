"""What follows when an attempt ends without a result: another attempt, another setting, or giving up."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import bulk_sql
from hpo.storage.ledger.worker_ids import has_ended
from hpo.storage.schema import failures, slots

ATTEMPTS = {"lost worker": 3, "out of memory": 3, "timeout": 3, "exception": 2}
MOST = 3  # attempts at one setting, whatever ended them
LONGEST = 20_000  # characters of a traceback that are kept


def allowed_failures(trials: int) -> float:
    """Settings a configuration may give up before it counts as failed."""
    return max(5, trials / 4)


def take_back(connection: Connection, study: int, now: float, expired: bool) -> None:
    """Ends the attempts whose process on this machine is gone and, if `expired`, those whose lease ran out."""
    held = sa.and_(slots.c.study_id == study, slots.c.state == "leased")
    query = sa.select(slots.c.worker_id, sa.func.min(slots.c.lease_until)).where(held).group_by(slots.c.worker_id)
    owners = connection.execute(query).all()
    dead = {worker_id for worker_id, _ in owners if has_ended(worker_id)}
    late = expired and any(until < now for _, until in owners)
    if not dead and not late:
        return
    gone_or_late = [slots.c.worker_id.in_(sorted(dead)), *([slots.c.lease_until < now] if late else [])]
    lost = sa.or_(*gone_or_late)
    rows = connection.execute(
        sa.select(slots).where(held, lost).order_by(slots.c.id).with_for_update(skip_locked=True)
    ).all()
    end_attempts(connection, rows, "lost worker", "the worker {worker_id} ended or was cut off", now)


def end_attempts(connection: Connection, rows: Sequence[Any], cause: str, message: str, now: float) -> None:
    """Records a failure for every leased row and decides what becomes of its slot."""
    if not rows:
        return
    failed = failed_configurations(connection, rows[0].study_id)
    before = _failures_before(connection, rows, cause)
    bulk_sql.insert(
        connection,
        failures,
        [
            {
                "study_id": row.study_id,
                "slot_id": row.id,
                "attempt": row.attempt,
                "cause": cause,
                "message": _storable(message.replace("{worker_id}", row.worker_id))[-LONGEST:],
                "setting": row.setting,
                "time": now,
            }
            for row in rows
        ],
    )
    spent = {row.id for row in rows if row.attempt >= MOST or before[row.id] + 1 >= ATTEMPTS[cause]}
    over = {row.id for row in rows if row.configuration in failed or (row.id in spent and row.phase == "rerun")}
    free: dict[str, Any] = {"state": "open", "worker_id": None, "lease_until": None}
    renewed = {"setting": None, "attempt": 0, "replacements": slots.c.replacements + 1, "started": None}
    for ids, values in (
        (over, {"state": "failed", "cause": cause, "finished": now}),
        (spent - over, renewed),
        ({row.id for row in rows} - spent - over, {}),
    ):
        if ids:
            connection.execute(
                sa.update(slots).where(bulk_sql.among(connection, slots.c.id, ids)).values(free | values)
            )
    for configuration in {row.configuration for row in rows} - failed.keys():
        _give_up(connection, rows[0].study_id, configuration, cause, now)


def failed_configurations(connection: Connection, study: int) -> dict[str, str]:
    """Configurations that used up their failures, with a cause: only they have tuning slots that failed."""
    query = sa.select(slots.c.configuration, sa.func.min(slots.c.cause)).where(
        slots.c.study_id == study, slots.c.state == "failed", slots.c.phase == "tune"
    )
    return {row[0]: row[1] for row in connection.execute(query.group_by(slots.c.configuration))}


def _failures_before(connection: Connection, rows: Sequence[Any], cause: str) -> dict[int, int]:
    """By slot, how many earlier attempts at its present setting ended for the same cause.

    Attempts are counted anew once the user's code has changed: no more of them count than there were since.
    """
    settings = {row.id: row.setting for row in rows}
    counts = dict.fromkeys(settings, 0)
    query = sa.select(failures.c.slot_id, failures.c.setting).where(
        bulk_sql.among(connection, failures.c.slot_id, settings), failures.c.cause == cause
    )
    for slot, setting in connection.execute(query):
        counts[slot] += setting == settings[slot]
    return {row.id: min(counts[row.id], row.attempt - 1) for row in rows}


def _storable(text: str) -> str:
    """Without what a database refuses: NUL, and halves of characters from names that are no UTF-8."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _give_up(connection: Connection, study: int, configuration: str, cause: str, now: float) -> None:
    """Fails all open slots of a configuration that gave up too many settings in one of its tuning runs."""
    mine = sa.and_(slots.c.study_id == study, slots.c.configuration == configuration)
    query = sa.select(sa.func.sum(slots.c.replacements), sa.func.count()).where(mine, slots.c.phase == "tune")
    runs = connection.execute(query.group_by(slots.c.tuning_run)).all()
    if any(replacements > allowed_failures(trials) for replacements, trials in runs):
        connection.execute(
            sa.update(slots).where(mine, slots.c.state == "open").values(state="failed", cause=cause, finished=now)
        )
