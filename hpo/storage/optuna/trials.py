"""Optuna's trials, written and read for a whole population at once: a few statements, whatever its size.

Optuna's public API takes some 30 statements a trial. Every function is one transaction, retried while the database is
unavailable.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import TrialState
from sqlalchemy.engine import Connection, Engine

from hpo.storage import bulk_sql
from hpo.storage.optuna.curves import delete_curves, insert_curves
from hpo.storage.optuna.schema import parameters, studies, trial_attributes, trials, values
from hpo.storage.schema import slots
from hpo.storage.transactions import run_with_retry

UNFINISHED = trials.c.state.in_((TrialState.RUNNING, TrialState.WAITING))


class NewTrial(NamedTuple):
    """The setting and the user attributes of a trial that begins."""

    setting: Mapping[str, Any]
    attributes: Mapping[str, Any]


class TrialResult(NamedTuple):
    """How a trial ends: PRUNED after `pruned_epoch`, else COMPLETE with a finite value, or FAIL without one.

    Attributes:
        trial: its id; None if the slot has no trial, so that there is nothing to end.
        curve: epoch → score, which replaces what was written while it was trained, unless it is empty.
    """

    trial: int | None
    value: float | None
    cause: str | None
    pruned_epoch: int | None = None
    curve: Mapping[int, float] = MappingProxyType({})

    @property
    def state(self) -> TrialState:
        if self.pruned_epoch is not None:
            return TrialState.PRUNED
        return TrialState.FAIL if self.value is None else TrialState.COMPLETE


def create_trials(
    engine: Engine, study: int, distributions: Mapping[str, BaseDistribution], new: Sequence[NewTrial]
) -> list[int]:
    """Creates RUNNING trials; returns their ids, in order.

    Raises:
        KeyError: the study was deleted.
    """

    def write(connection: Connection) -> list[int]:
        ids = _insert_trials(connection, study, len(new))
        insert_contents(connection, distributions, dict(zip(ids, new, strict=True)))
        return ids

    return run_with_retry(engine, write)


def insert_contents(
    connection: Connection, distributions: Mapping[str, BaseDistribution], new: Mapping[int, NewTrial]
) -> None:
    """Inserts the settings and the user attributes of trials, by their ids."""
    texts = {name: distribution_to_json(distribution) for name, distribution in distributions.items()}
    bulk_sql.insert(connection, parameters, [
        {"trial_id": trial, "param_name": name, "param_value": value, "distribution_json": texts[name]}
        for trial, entry in new.items()
        for name, value in _stored(entry.setting, distributions).items()
    ])  # fmt: skip
    _insert_attributes(connection, {trial: entry.attributes for trial, entry in new.items()})


def _stored(setting: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> dict[str, float]:
    """A setting as Optuna's tables hold it: of a choice the place among its values."""
    return {name: distributions[name].to_internal_repr(value) for name, value in setting.items()}


def resume_trials(
    engine: Engine, distributions: Mapping[str, BaseDistribution], resumed: Mapping[int, NewTrial]
) -> set[int]:
    """Trials, by id, are RUNNING with new attributes, if they have not ended and have this setting; returns these."""

    def write(connection: Connection) -> set[int]:
        ids = lock_unfinished(connection, resumed)
        settings: dict[int, dict[str, float]] = {trial: {} for trial in ids}
        columns = (parameters.c.trial_id, parameters.c.param_name, parameters.c.param_value)
        for trial, name, value in connection.execute(
            sa.select(*columns).where(bulk_sql.among(connection, parameters.c.trial_id, ids))
        ):
            settings[trial][name] = value
        same = [trial for trial in ids if settings[trial] == _stored(resumed[trial].setting, distributions)]
        _set_attributes(connection, {trial: resumed[trial].attributes for trial in same})
        delete_curves(connection, same)  # of the earlier attempt
        chosen = bulk_sql.among(connection, trials.c.trial_id, same)
        connection.execute(sa.update(trials).where(chosen).values(state=TrialState.RUNNING, datetime_start=utc_now()))
        return set(same)

    return run_with_retry(engine, write) if resumed else set()


def pause_trials(engine: Engine, released: Collection[int]) -> None:
    """The RUNNING trials of slots (ids) that are open wait for another worker."""

    def write(connection: Connection) -> None:
        of_slots = sa.select(slots.c.trial).where(
            bulk_sql.among(connection, slots.c.id, released), slots.c.state == "open"
        )
        running = sa.and_(trials.c.trial_id.in_(of_slots), trials.c.state == TrialState.RUNNING)
        connection.execute(sa.update(trials).where(running).values(state=TrialState.WAITING, datetime_start=None))

    if released:
        run_with_retry(engine, write)


def end_trials(engine: Engine, results: Iterable[TrialResult]) -> None:
    """Ends trials that have not ended; others, and those that are deleted, stay as they are."""
    by_trial = {result.trial: result for result in results if result.trial is not None}
    if by_trial:
        run_with_retry(engine, lambda connection: _end(connection, by_trial))


def _insert_trials(connection: Connection, study: int, count: int) -> list[int]:
    """Inserts empty trials with the next numbers of a study, which stays locked, as Optuna does it."""
    if connection.scalar(sa.select(studies.c.study_id).where(studies.c.study_id == study).with_for_update()) is None:
        raise KeyError(study)
    of_study = trials.c.study_id == study
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.max(trials.c.trial_id), 0)).where(of_study)
    first, newest = connection.execute(query).one()
    columns = {"study_id": study, "state": TrialState.RUNNING, "datetime_start": utc_now(), "datetime_complete": None}
    bulk_sql.insert(connection, trials, [{"number": number, **columns} for number in range(first, first + count)])
    inserted = sa.select(trials.c.trial_id).where(of_study, trials.c.trial_id > newest).order_by(trials.c.number)
    return list(connection.scalars(inserted))


def lock_unfinished(connection: Connection, ids: Collection[int]) -> Sequence[int]:
    """The trials among `ids` that have not ended; others wait for this transaction to change them."""
    query = sa.select(trials.c.trial_id).where(bulk_sql.among(connection, trials.c.trial_id, ids), UNFINISHED)
    return connection.scalars(query.order_by(trials.c.trial_id).with_for_update()).all()


def _set_attributes(connection: Connection, by_trial: Mapping[int, Mapping[str, Any]]) -> None:
    """Sets user attributes of trials, new ones or others."""
    keys = {key for attributes in by_trial.values() for key in attributes}
    if keys:
        written = bulk_sql.among(connection, trial_attributes.c.trial_id, by_trial)
        connection.execute(sa.delete(trial_attributes).where(written, trial_attributes.c.key.in_(sorted(keys))))
        _insert_attributes(connection, by_trial)


def _insert_attributes(connection: Connection, by_trial: Mapping[int, Mapping[str, Any]]) -> None:
    bulk_sql.insert(connection, trial_attributes, [
        {"trial_id": trial, "key": key, "value_json": json.dumps(value)}
        for trial, attributes in by_trial.items()
        for key, value in attributes.items()
    ])  # fmt: skip


def _end(connection: Connection, by_trial: Mapping[int, TrialResult]) -> None:
    results = [(trial, by_trial[trial]) for trial in lock_unfinished(connection, by_trial)]
    # A cause may exist already: Optuna's API writes it before the state.
    _set_attributes(connection, {
        trial: {"cause": result.cause} for trial, result in results if result.cause is not None
    })  # fmt: skip
    bulk_sql.insert(connection, values, [
        {"trial_id": trial, "objective": 0, "value": result.value, "value_type": "FINITE"}
        for trial, result in results
        if result.value is not None
    ])  # fmt: skip
    by_trial_curves = {trial: _reported(result) for trial, result in results if result.curve or result.pruned_epoch}
    delete_curves(connection, by_trial_curves)
    insert_curves(connection, by_trial_curves)
    for state in {result.state for _, result in results}:
        ended = bulk_sql.among(connection, trials.c.trial_id, [t for t, result in results if result.state == state])
        connection.execute(sa.update(trials).where(ended).values(state=state, datetime_complete=utc_now()))


def _reported(result: TrialResult) -> dict[int, float]:
    """The curve of a trial, with what its pruner saw last."""
    value = math.nan if result.value is None else result.value
    return {**result.curve, **({result.pruned_epoch: value} if result.pruned_epoch else {})}


def utc_now() -> datetime:
    """The time as Optuna stores it: UTC, without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)
