"""Optuna's trials, written and read for a whole population at once: a few statements, whatever its size.

Optuna's public API takes some 30 statements a trial. Every function is one transaction, retried while the database is
unavailable.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import TrialState
from sqlalchemy.engine import Connection, Engine

from hpo.storage import bulk_sql
from hpo.storage.optuna.schema import (
    intermediate_values,
    parameters,
    studies,
    study_attributes,
    trial_attributes,
    trials,
    values,
)
from hpo.storage.schema import slots
from hpo.storage.transactions import run_with_retry

_UNFINISHED = trials.c.state.in_((TrialState.RUNNING, TrialState.WAITING))


class NewTrial(NamedTuple):
    """The setting and the user attributes of a trial that begins."""

    setting: Mapping[str, float]
    attributes: Mapping[str, Any]


class TrialResult(NamedTuple):
    """How a trial ends: PRUNED after `pruned_epoch`, else COMPLETE with a finite value, or FAIL without one.

    Attributes:
        trial: its id; None if the slot has no trial, so that there is nothing to end.
    """

    trial: int | None
    value: float | None
    cause: str | None
    pruned_epoch: int | None = None

    @property
    def state(self) -> TrialState:
        if self.pruned_epoch is not None:
            return TrialState.PRUNED
        return TrialState.FAIL if self.value is None else TrialState.COMPLETE


class Discrepancies(NamedTuple):
    """Where Optuna's tables and the ledger may differ.

    Attributes:
        unfinished: (trial id, slot id or None) of the trials that have not ended.
        hidden: ids of finished slots that no trial shows, or only one that failed although there is a value.
        rows: slot id → columns, for the slots of `unfinished` and `hidden`.
    """

    unfinished: list[tuple[int, int | None]]
    hidden: list[int]
    rows: dict[int, dict[str, Any]]


def find_studies(engine: Engine, names: Sequence[str], attribute: str) -> dict[str, tuple[int, Any]]:
    """Name → (id, value of that user attribute or None) of the studies that exist."""
    matches = sa.and_(study_attributes.c.study_id == studies.c.study_id, study_attributes.c.key == attribute)
    query = sa.select(studies.c.study_id, studies.c.study_name, study_attributes.c.value_json)
    query = query.outerjoin_from(studies, study_attributes, matches).where(studies.c.study_name.in_(names))
    rows = run_with_retry(engine, lambda connection: connection.execute(query).all())
    return {name: (study, None if text is None else json.loads(text)) for study, name, text in rows}


def create_trials(
    engine: Engine, study: int, distributions: Mapping[str, BaseDistribution], new: Sequence[NewTrial]
) -> list[int]:
    """Creates RUNNING trials; returns their ids, in order.

    Raises:
        KeyError: the study was deleted.
    """
    texts = {name: distribution_to_json(distribution) for name, distribution in distributions.items()}

    def write(connection: Connection) -> list[int]:
        ids = _insert_trials(connection, study, len(new))
        bulk_sql.insert(connection, parameters, [
            {"trial_id": trial, "param_name": name, "param_value": value, "distribution_json": texts[name]}
            for trial, entry in zip(ids, new, strict=True)
            for name, value in entry.setting.items()
        ])  # fmt: skip
        bulk_sql.insert(connection, trial_attributes, [
            {"trial_id": trial, "key": key, "value_json": json.dumps(value)}
            for trial, entry in zip(ids, new, strict=True)
            for key, value in entry.attributes.items()
        ])  # fmt: skip
        return ids

    return run_with_retry(engine, write)


def end_trials(engine: Engine, results: Iterable[TrialResult]) -> None:
    """Ends trials that have not ended; others, and those that are deleted, stay as they are."""
    by_trial = {result.trial: result for result in results if result.trial is not None}
    if by_trial:
        run_with_retry(engine, lambda connection: _end(connection, by_trial))


def find_discrepancies(engine: Engine, ledger: int, shown_in: Sequence[int]) -> Discrepancies:
    """`ledger`: the study's id in the ledger. `shown_in`: ids of the Optuna studies that show it."""

    def read(connection: Connection) -> Discrepancies:
        # Trials first: one that is running belongs to a lease, which the rows that are read later contain.
        unfinished = _find_unfinished(connection, shown_in)
        hidden = _find_hidden(connection, ledger, shown_in)
        ids = {*hidden, *(slot for _, slot in unfinished if slot is not None)}
        query = sa.select(slots).where(slots.c.study_id == ledger, bulk_sql.among(connection, slots.c.id, ids))
        return Discrepancies(unfinished, hidden, {row["id"]: dict(row) for row in connection.execute(query).mappings()})

    return run_with_retry(engine, read)


def _insert_trials(connection: Connection, study: int, count: int) -> list[int]:
    """Inserts empty trials with the next numbers of a study, which stays locked, as Optuna does it."""
    if connection.scalar(sa.select(studies.c.study_id).where(studies.c.study_id == study).with_for_update()) is None:
        raise KeyError(study)
    of_study = trials.c.study_id == study
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.max(trials.c.trial_id), 0)).where(of_study)
    first, newest = connection.execute(query).one()
    columns = {"study_id": study, "state": TrialState.RUNNING, "datetime_start": _now(), "datetime_complete": None}
    bulk_sql.insert(connection, trials, [{"number": number, **columns} for number in range(first, first + count)])
    inserted = sa.select(trials.c.trial_id).where(of_study, trials.c.trial_id > newest).order_by(trials.c.number)
    return list(connection.scalars(inserted))


def _end(connection: Connection, by_trial: Mapping[int, TrialResult]) -> None:
    query = sa.select(trials.c.trial_id).where(bulk_sql.among(connection, trials.c.trial_id, by_trial), _UNFINISHED)
    ids = connection.scalars(query.order_by(trials.c.trial_id).with_for_update()).all()
    results = [(trial, by_trial[trial]) for trial in ids]
    causes = [
        {"trial_id": trial, "key": "cause", "value_json": json.dumps(result.cause)}
        for trial, result in results
        if result.cause is not None
    ]
    if causes:  # a cause may exist already: Optuna's API writes it before the state
        written = bulk_sql.among(connection, trial_attributes.c.trial_id, ids)
        connection.execute(sa.delete(trial_attributes).where(written, trial_attributes.c.key == "cause"))
        bulk_sql.insert(connection, trial_attributes, causes)
    bulk_sql.insert(connection, values, [
        {"trial_id": trial, "objective": 0, "value": result.value, "value_type": "FINITE"}
        for trial, result in results
        if result.value is not None
    ])  # fmt: skip
    bulk_sql.insert(connection, intermediate_values, [
        {
            "trial_id": trial, "step": result.pruned_epoch, "intermediate_value": result.value,
            "intermediate_value_type": "NAN" if result.value is None else "FINITE",
        }
        for trial, result in results
        if result.pruned_epoch is not None
    ])  # fmt: skip
    for state in {result.state for _, result in results}:
        ended = bulk_sql.among(connection, trials.c.trial_id, [t for t, result in results if result.state == state])
        connection.execute(sa.update(trials).where(ended).values(state=state, datetime_complete=_now()))


def _find_unfinished(connection: Connection, shown_in: Sequence[int]) -> list[tuple[int, int | None]]:
    slot = sa.and_(trial_attributes.c.trial_id == trials.c.trial_id, trial_attributes.c.key == "slot_id")
    query = sa.select(trials.c.trial_id, trial_attributes.c.value_json).outerjoin_from(trials, trial_attributes, slot)
    rows = connection.execute(query.where(bulk_sql.among(connection, trials.c.study_id, shown_in), _UNFINISHED))
    return [(trial, None if text is None else json.loads(text)) for trial, text in rows]


def _find_hidden(connection: Connection, ledger: int, shown_in: Sequence[int]) -> list[int]:
    trial_of_slot = sa.and_(trials.c.trial_id == slots.c.trial, bulk_sql.among(connection, trials.c.study_id, shown_in))
    wrong = sa.and_(trials.c.state == TrialState.FAIL, slots.c.value.is_not(None))
    query = sa.select(slots.c.id).outerjoin_from(slots, trials, trial_of_slot).order_by(slots.c.id)
    finished = sa.and_(slots.c.study_id == ledger, slots.c.state == "done")
    return list(connection.scalars(query.where(finished, sa.or_(trials.c.trial_id.is_(None), wrong))))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
