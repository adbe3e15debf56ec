"""What follows when an attempt ends without a result: another attempt, another setting, or giving up."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import bulk_sql
from hpo.storage.ledger.leases import RELEASED, change
from hpo.storage.ledger.lost_workers import LOST, MAX_LOST, set_aside
from hpo.storage.ledger.queries import first_lease_ends
from hpo.storage.ledger.worker_ids import has_ended
from hpo.storage.schema import failures, slots, studies

MAX_ATTEMPTS = {"out of memory": 3, "timeout": 3, "exception": 2}  # at one setting, by cause
MAX_ATTEMPTS_OF_ALL_CAUSES = 3  # that are evidence against the setting: a lost worker is not
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
    end_attempts(connection, rows, LOST, "the worker {worker_id} ended or was cut off", now)


def end_attempts(connection: Connection, rows: Sequence[Any], cause: str, message: str, now: float) -> None:
    """Stores a failure for every leased row, and opens its slot again or fails it."""
    if not rows:
        return
    study = rows[0].study_id
    failed = failed_configurations(connection, study)
    _insert_failures(connection, rows, cause, message, now)
    if cause == LOST:
        exhausted = set_aside(connection, rows)
        _explain(connection, exhausted, now)
    else:
        exhausted = _exhausted(connection, rows, cause)
    over = {row.id for row in rows if row.configuration in failed or (row.id in exhausted and row.phase == "rerun")}
    replaced = {"setting": None, "attempt": 0, "replacements": slots.c.replacements + 1, "started": None, "trial": None}
    change(connection, over, {**RELEASED, "state": "failed", "cause": cause, "finished": now})
    change(connection, exhausted - over, {**RELEASED, **replaced})
    # Optuna shows an attempt that failed; after a lost worker the same trial continues.
    shown = {} if cause == LOST else {"trial": None}
    change(connection, {row.id for row in rows} - exhausted - over, {**RELEASED, **shown})
    for configuration in {row.configuration for row in rows} - failed.keys():
        _give_up(connection, study, configuration, cause, now)


def reopen(connection: Connection, study: int, cause: str, configurations: Collection[str] | None = None) -> None:
    """Opens the slots that failed for `cause`: changed code for exceptions, new workers for lost ones.

    A configuration that was given up for `cause` is opened completely and may fail as often as a new one.

    Args:
        configurations: those to open, without any result, so that attempts at open slots count no more either; None:
            all.
    """
    of_study: sa.ColumnElement[bool] = slots.c.study_id == study
    if configurations is not None:
        of_study = sa.and_(of_study, slots.c.configuration.in_(list(configurations)))
        unfinished = sa.update(slots).where(of_study, slots.c.state == "open")
        connection.execute(unfinished.values(attempt=0, replacements=0))
    by_cause = sa.and_(of_study, slots.c.state == "failed", slots.c.cause == cause)
    if connection.scalar(sa.select(slots.c.id).where(by_cause).limit(1)) is None:
        return
    tuning = sa.select(slots.c.configuration).where(by_cause, slots.c.phase == "tune")
    given_up = slots.c.configuration.in_(list(connection.scalars(tuning.distinct())))
    opened = {"state": "open", "cause": None, "finished": None, "started": None, "attempt": 0, "trial": None}
    connection.execute(sa.update(slots).where(of_study, given_up, slots.c.phase == "tune").values(replacements=0))
    failed_slots = sa.update(slots).where(of_study, given_up, slots.c.state == "failed")
    connection.execute(failed_slots.values(opened | {"setting": None}))
    with_setting = sa.and_(by_cause, slots.c.phase == "rerun", slots.c.setting.is_not(None))
    connection.execute(sa.update(slots).where(with_setting).values(opened))
    connection.execute(sa.update(studies).where(studies.c.id == study).values(settings_assigned=[]))


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


def _explain(connection: Connection, exhausted: Collection[int], now: float) -> None:
    """Says in the newest failures of slots why their settings are set aside."""
    ending = f"; it is the {MAX_LOST}th worker lost with this setting, and no other was: the setting is set aside"
    newest = sa.and_(bulk_sql.among(connection, failures.c.slot_id, exhausted), failures.c.time == now)
    if exhausted:
        connection.execute(sa.update(failures).where(newest).values(message=failures.c.message + ending))


def _exhausted(connection: Connection, rows: Sequence[Any], cause: str) -> set[int]:
    """Slots whose present setting has failed as often as it may, for `cause` or for all causes that count.

    When the user's code has changed, attempts are counted from 1 again: earlier ones do not count.
    """
    settings = {row.id: row.setting for row in rows}
    by_cause, of_all = dict.fromkeys(settings, 0), dict.fromkeys(settings, 0)
    query = sa.select(failures.c.slot_id, failures.c.setting, failures.c.cause).where(
        bulk_sql.among(connection, failures.c.slot_id, settings), failures.c.cause != LOST
    )
    for slot, setting, earlier in connection.execute(query):
        if setting == settings[slot]:
            of_all[slot] += 1
            by_cause[slot] += earlier == cause
    return {
        row.id
        for row in rows
        if min(by_cause[row.id], row.attempt) >= MAX_ATTEMPTS[cause]
        or min(of_all[row.id], row.attempt) >= MAX_ATTEMPTS_OF_ALL_CAUSES
    }


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
