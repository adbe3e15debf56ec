"""Settings that a person enqueues in the Optuna study of a tuning run, with `optuna.Study.enqueue_trial`.

Optuna stores such a setting as a trial that waits. A worker that holds a slot without a setting makes it this slot's
trial, in the transaction that gives the slot its setting, so that it is tried once whatever dies.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState
from sqlalchemy.engine import Connection, Engine

from hpo.space import Setting
from hpo.storage import bulk_sql
from hpo.storage.ledger import Ledger
from hpo.storage.ledger.leases import held_in
from hpo.storage.optuna.schema import trial_attributes, trial_system_attributes, trials
from hpo.storage.optuna.trials import NewTrial, insert_contents, utc_now
from hpo.storage.schema import slots, studies
from hpo.storage.transactions import now, run_with_retry
from hpo.trials import Slot

FIXED = "fixed_params"  # the system attribute in which Optuna keeps an enqueued setting


class Enqueued(NamedTuple):
    """A trial that waits, in the Optuna study `study`, where it has this number; its setting may leave some out."""

    study: int
    trial: int
    number: int
    setting: Mapping[str, Any]


class Claim(NamedTuple):
    """An enqueued trial, the slot that is to try it, and the whole setting."""

    enqueued: Enqueued
    slot: Slot
    setting: Setting


def find_enqueued(engine: Engine, shown_in: Sequence[int]) -> list[Enqueued]:
    """The trials that wait in these Optuna studies and show no slot: those of released slots wait for a worker."""

    def read(connection: Connection) -> list[Enqueued]:
        fixed = sa.and_(trial_system_attributes.c.trial_id == trials.c.trial_id, trial_system_attributes.c.key == FIXED)
        query = sa.select(trials.c.study_id, trials.c.trial_id, trials.c.number, trial_system_attributes.c.value_json)
        query = query.outerjoin_from(trials, trial_system_attributes, fixed).order_by(trials.c.trial_id)
        in_studies = bulk_sql.among(connection, trials.c.study_id, shown_in)
        shown = sa.select(trial_attributes.c.trial_id).where(trial_attributes.c.key == "slot_id")
        of_no_slot = trials.c.trial_id.not_in(shown.where(trial_attributes.c.trial_id == trials.c.trial_id))
        rows = connection.execute(query.where(in_studies, trials.c.state == TrialState.WAITING, of_no_slot))
        return [Enqueued(study, trial, number, json.loads(text) if text else {}) for study, trial, number, text in rows]

    return run_with_retry(engine, read)


def claim(
    ledger: Ledger,
    worker_id: str,
    configuration: str,
    claims: Sequence[Claim],
    new: Mapping[int, NewTrial],
    distributions: Mapping[str, BaseDistribution],
) -> list[Claim]:
    """Gives slots that the worker still holds the settings of waiting trials, which run from now on.

    Args:
        new: trial → what Optuna shows of it. distributions: of the configuration.

    Returns:
        Those that no other worker was faster to take.
    """

    def write(connection: Connection) -> list[Claim]:
        ledger._lock(connection)  # before the slots, as in every transaction that locks them
        attempts = {each.slot.id: each.slot.attempt for each in claims}
        columns = (*(slots.c.id, slots.c.attempt), sa.cast(slots.c.setting, sa.Text).label("setting"))
        free = {row.id for row in held_in(connection, ledger.id, worker_id, attempts, columns) if row.setting is None}
        query = sa.select(trials.c.trial_id).where(
            bulk_sql.among(connection, trials.c.trial_id, [each.enqueued.trial for each in claims]),
            trials.c.state == TrialState.WAITING,
        )
        waiting = set(connection.scalars(query.order_by(trials.c.trial_id).with_for_update()))
        taken = [each for each in claims if each.slot.id in free and each.enqueued.trial in waiting]
        if not taken:
            return []
        running = bulk_sql.among(connection, trials.c.trial_id, [each.enqueued.trial for each in taken])
        started = {"state": TrialState.RUNNING, "datetime_start": utc_now()}
        connection.execute(sa.update(trials).where(running).values(started))
        insert_contents(connection, distributions, {each.enqueued.trial: new[each.enqueued.trial] for each in taken})
        rows = [{"id": each.slot.id, "setting": each.setting, "trial": each.enqueued.trial} for each in taken]
        bulk_sql.update(connection, slots, rows)
        if given := [each for each in taken if each.enqueued.setting]:
            _add_note(connection, ledger, _event(configuration, given))
        return taken

    return run_with_retry(ledger.engine, write)


def note_refusal(ledger: Ledger, sentence: str) -> None:
    """Stores that a setting was refused, for the report."""

    def write(connection: Connection) -> None:
        ledger._lock(connection)
        _add_note(connection, ledger, sentence)

    run_with_retry(ledger.engine, write)


def _add_note(connection: Connection, ledger: Ledger, event: str) -> None:
    of_study = studies.c.id == ledger.id
    notes = connection.scalar(sa.select(studies.c.notes).where(of_study)) or []
    note = {"time": now(connection), "event": event}
    connection.execute(sa.update(studies).where(of_study).values(notes=[*notes, note]))


def _event(configuration: str, claims: Sequence[Claim]) -> str:
    """What a report says: these settings do not follow from the study's definition."""
    shown = []
    for enqueued, slot, _ in claims:
        run = f" of tuning run {slot.tuning_run + 1}" if slot.tuning_run else ""
        shown.append(f"trial {slot.slot + 1}{run} (Optuna's number {enqueued.number})")
    return f"{configuration}: settings enqueued in Optuna were tried as {', '.join(shown)}"
