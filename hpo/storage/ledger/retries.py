"""What follows when an attempt ends without a result: another attempt, another setting, or giving up."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import bulk_sql
from hpo.storage.ledger.leases import RELEASED, change
from hpo.storage.ledger.queries import first_lease_ends
from hpo.storage.ledger.worker_ids import has_ended
from hpo.storage.schema import failures, slots

MAX_ATTEMPTS = {"lost worker": 3, "out of memory": 3, "timeout": 3, "exception": 2}  # at one setting, by cause
MAX_ATTEMPTS_OF_ALL_CAUSES = 3
MAX_MESSAGE = 20_000  # characters of a traceback that are stored


def max_replacements(trials: int) -> float:
    """The settings that a tuning run may replace before its configuration counts as failed."""
    return max(5, trials / 4)


def end_lost_attempts(connection: Connection, study: int, now: float, take_over: bool) -> None:
    """Ends the attempts whose process on this machine has ended and, if `take_over`, those whose lease ran out."""
    leases = first_lease_ends(connection, study)
    ended = [worker_id for worker_id, _ in leases if has_ended(worker_id)]
    expired = take_over and any(end < now for _, end in leases)
    if not ended and not expired:
        return
    lost = sa.or_(slots.c.worker_id.in_(sorted(ended)), *([slots.c.lease_until < now] if expired else []))
    query = sa.select(slots).where(slots.c.study_id == study, slots.c.state == "leased", lost)
    rows = connection.execute(query.order_by(slots.c.id).with_for_update(skip_locked=True)).all()
    end_attempts(connection, rows, "lost worker", "the worker {worker_id} ended or was cut off", now)


def end_attempts(connection: Connection, rows: Sequence[Any], cause: str, message: str, now: float) -> None:
    """Stores a failure for every leased row, and opens its slot again or fails it."""
    if not rows:
        return
    study = rows[0].study_id
    failed = failed_configurations(connection, study)
    earlier = _earlier_failures(connection, rows, cause)
    _insert_failures(connection, rows, cause, message, now)
    exhausted = {
        row.id
        for row in rows
        if row.attempt >= MAX_ATTEMPTS_OF_ALL_CAUSES or earlier[row.id] + 1 >= MAX_ATTEMPTS[cause]
    }
    over = {row.id for row in rows if row.configuration in failed or (row.id in exhausted and row.phase == "rerun")}
    replaced = {"setting": None, "attempt": 0, "replacements": slots.c.replacements + 1, "started": None}
    change(connection, over, {**RELEASED, "state": "failed", "cause": cause, "finished": now})
    change(connection, exhausted - over, {**RELEASED, **replaced})
    change(connection, {row.id for row in rows} - exhausted - over, RELEASED)
    for configuration in {row.configuration for row in rows} - failed.keys():
        _give_up(connection, study, configuration, cause, now)


def failed_configurations(connection: Connection, study: int) -> dict[str, str]:
    """Configurations that were given up, with a cause: only they have failed tuning slots."""
    query = sa.select(slots.c.configuration, sa.func.min(slots.c.cause)).where(
        slots.c.study_id == study, slots.c.state == "failed", slots.c.phase == "tune"
    )
    return {row[0]: row[1] for row in connection.execute(query.group_by(slots.c.configuration))}


def _insert_failures(connection: Connection, rows: Sequence[Any], cause: str, message: str, now: float) -> None:
    bulk_sql.insert(connection, failures, [
        {
            "study_id": row.study_id, "slot_id": row.id, "attempt": row.attempt, "cause": cause,
            "message": _storable(message.replace("{worker_id}", row.worker_id))[-MAX_MESSAGE:],
            "setting": row.setting, "time": now,
        }
        for row in rows
    ])  # fmt: skip


def _earlier_failures(connection: Connection, rows: Sequence[Any], cause: str) -> dict[int, int]:
    """Slot → earlier attempts at its present setting that ended for the same cause.

    When the user's code has changed, attempts are counted from 1 again: earlier ones do not count.
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
    """Without what a database refuses: NUL, and halves of characters from names that are not UTF-8."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _give_up(connection: Connection, study: int, configuration: str, cause: str, now: float) -> None:
    """Fails all open slots of a configuration if one of its tuning runs has replaced too many settings."""
    of_configuration = sa.and_(slots.c.study_id == study, slots.c.configuration == configuration)
    query = sa.select(sa.func.sum(slots.c.replacements), sa.func.count())
    query = query.where(of_configuration, slots.c.phase == "tune").group_by(slots.c.tuning_run)
    if any(replacements > max_replacements(trials) for replacements, trials in connection.execute(query).all()):
        statement = sa.update(slots).where(of_configuration, slots.c.state == "open")
        connection.execute(statement.values(state="failed", cause=cause, finished=now))
