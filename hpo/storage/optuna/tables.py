"""Optuna's own tables, read and written for a whole population at once: a few statements, whatever its size.

Optuna's public way takes some 30 statements a trial. What stands here holds for one version of its tables, which it
has had since 2023 and notes in the database; `mirror` takes the public way (`public_api`) for any other.
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
from hpo.storage.database import retry, run_with_retry
from hpo.storage.schema import slots

VERSION = "v3.2.0.a"

_metadata = sa.MetaData()
_KINDS = ("FINITE", "INF_POS", "INF_NEG")
_OPEN = (TrialState.RUNNING, TrialState.WAITING)


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(name, _metadata, *columns)


_version = _table("alembic_version", sa.Column("version_num", sa.String(32)))
_studies = _table("studies", sa.Column("study_id", sa.Integer), sa.Column("study_name", sa.String(512)))
_study_attributes = _table(
    "study_user_attributes",
    sa.Column("study_id", sa.Integer),
    sa.Column("key", sa.String(512)),
    sa.Column("value_json", sa.Text),
)
_trials = _table(
    "trials",
    sa.Column("trial_id", sa.Integer),
    sa.Column("number", sa.Integer),
    sa.Column("study_id", sa.Integer),
    sa.Column("state", sa.Enum(TrialState)),
    sa.Column("datetime_start", sa.DateTime),  # without a zone, in UTC
    sa.Column("datetime_complete", sa.DateTime),
)
_attributes = _table(
    "trial_user_attributes",
    sa.Column("trial_id", sa.Integer),
    sa.Column("key", sa.String(512)),
    sa.Column("value_json", sa.Text),
)
_parameters = _table(
    "trial_params",
    sa.Column("trial_id", sa.Integer),
    sa.Column("param_name", sa.String(512)),
    sa.Column("param_value", sa.Float(53)),
    sa.Column("distribution_json", sa.Text),
)
_values = _table(
    "trial_values",
    sa.Column("trial_id", sa.Integer),
    sa.Column("objective", sa.Integer),
    sa.Column("value", sa.Float(53)),
    sa.Column("value_type", sa.Enum(*_KINDS, name="trialvaluetype")),
)
_intermediate = _table(
    "trial_intermediate_values",
    sa.Column("trial_id", sa.Integer),
    sa.Column("step", sa.Integer),
    sa.Column("intermediate_value", sa.Float(53)),
    sa.Column("intermediate_value_type", sa.Enum(*_KINDS, "NAN", name="trialintermediatevaluetype")),
)


class NewTrial(NamedTuple):
    """What a trial that begins shows of a slot."""

    setting: Mapping[str, float]
    attributes: Mapping[str, Any]


class TrialResult(NamedTuple):
    """How a trial ends: PRUNED after the epoch `pruned`, else COMPLETE with a finite value, FAIL without one."""

    trial: int
    value: float | None
    cause: str | None
    pruned: int | None = None

    @property
    def state(self) -> TrialState:
        if self.pruned is not None:
            return TrialState.PRUNED
        return TrialState.FAIL if self.value is None else TrialState.COMPLETE


class Discrepancies(NamedTuple):
    """Where Optuna's tables and the ledger may differ.

    Attributes:
        unfinished: (trial id, slot id or None) of the trials that have not ended.
        rows: slot id → columns, of the slots of `unfinished` and of the next.
        hidden: finished slots that no trial shows, or one that failed although there is a value.
    """

    unfinished: list[tuple[int, int | None]]
    rows: dict[int, Mapping[str, Any]]
    hidden: list[int]


def version(engine: Engine) -> str | None:
    """The version of Optuna's tables; None before they are made."""

    def read() -> str | None:
        with engine.begin() as connection:
            if not sa.inspect(connection).has_table(_version.name):
                return None
            return connection.scalar(sa.select(_version.c.version_num))

    return retry(read)


class OptunaTables:
    """Trials in bulk. All methods are one transaction, repeated while the database is locked or away."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def studies(self, names: Sequence[str], attribute: str) -> dict[str, tuple[int, Any]]:
        """Name → (id, value of that user attribute or None) of the studies that exist."""
        mine = sa.and_(_study_attributes.c.study_id == _studies.c.study_id, _study_attributes.c.key == attribute)
        query = sa.select(_studies.c.study_id, _studies.c.study_name, _study_attributes.c.value_json)
        query = query.outerjoin_from(_studies, _study_attributes, mine).where(_studies.c.study_name.in_(names))
        rows = run_with_retry(self.engine, lambda link: link.execute(query).all())
        return {name: (study, None if text is None else json.loads(text)) for study, name, text in rows}

    def create(self, study: int, distributions: Mapping[str, BaseDistribution], shown: Sequence[NewTrial]) -> list[int]:
        """RUNNING trials; returns their ids, in order.

        Raises:
            KeyError: the study was deleted.
        """
        texts = {name: distribution_to_json(entry) for name, entry in distributions.items()}

        def write(connection: Connection) -> list[int]:
            ids = _new_trials(connection, study, len(shown))
            both = list(zip(ids, shown, strict=True))
            bulk_sql.insert(
                connection,
                _parameters,
                [
                    {"trial_id": trial, "param_name": name, "param_value": value, "distribution_json": texts[name]}
                    for trial, entry in both
                    for name, value in entry.setting.items()
                ],
            )
            bulk_sql.insert(connection, _attributes, [
                {"trial_id": trial, "key": key, "value_json": json.dumps(value)}
                for trial, entry in both
                for key, value in entry.attributes.items()
            ])  # fmt: skip
            return ids

        return run_with_retry(self.engine, write)

    def end(self, endings: Sequence[TrialResult]) -> None:
        """Ends trials that have not ended; others, and those that are deleted, stay as they are."""
        run_with_retry(self.engine, lambda link: _end(link, {ending.trial: ending for ending in endings}))

    def discrepancies(self, ledger: int, studies: Sequence[int]) -> Discrepancies:
        """See `Discrepancies`; `ledger`: the study's id in the ledger; `studies`: the Optuna studies that show it."""

        def read(connection: Connection) -> Discrepancies:
            # Trials first: one that runs belongs to a lease that the rows, read later, know of.
            unfinished, hidden = _unfinished(connection, studies), _hidden(connection, ledger, studies)
            wanted = {*hidden, *(slot for _, slot in unfinished if slot is not None)}
            found = connection.execute(
                sa.select(slots).where(slots.c.study_id == ledger, bulk_sql.among(connection, slots.c.id, wanted))
            )
            return Discrepancies(unfinished, {row["id"]: dict(row) for row in found.mappings()}, hidden)

        return run_with_retry(self.engine, read)


def _new_trials(connection: Connection, study: int, count: int) -> list[int]:
    """Empty trials with the next numbers of a study; the study stays locked, as Optuna does it."""
    if connection.scalar(sa.select(_studies.c.study_id).where(_studies.c.study_id == study).with_for_update()) is None:
        raise KeyError(study)
    mine = _trials.c.study_id == study
    past, newest = connection.execute(sa.select(sa.func.count(), sa.func.max(_trials.c.trial_id)).where(mine)).one()
    fresh = {"study_id": study, "state": TrialState.RUNNING, "datetime_start": _now(), "datetime_complete": None}
    bulk_sql.insert(connection, _trials, [{"number": number, **fresh} for number in range(past, past + count)])
    made = sa.select(_trials.c.trial_id).where(mine, _trials.c.trial_id > (newest or 0))
    return list(connection.scalars(made.order_by(_trials.c.number)))


def _end(connection: Connection, endings: Mapping[int, TrialResult]) -> None:
    query = sa.select(_trials.c.trial_id).where(
        bulk_sql.among(connection, _trials.c.trial_id, endings), _trials.c.state.in_(_OPEN)
    )
    ending = [endings[trial] for trial in connection.scalars(query.order_by(_trials.c.trial_id).with_for_update())]
    causes = [
        {"trial_id": entry.trial, "key": "cause", "value_json": json.dumps(entry.cause)}
        for entry in ending
        if entry.cause is not None
    ]
    if causes:  # one may be there: Optuna's own way writes it before the state
        told = bulk_sql.among(connection, _attributes.c.trial_id, [entry.trial for entry in ending])
        connection.execute(sa.delete(_attributes).where(told, _attributes.c.key == "cause"))
        bulk_sql.insert(connection, _attributes, causes)
    bulk_sql.insert(connection, _values, [
        {"trial_id": entry.trial, "objective": 0, "value": entry.value, "value_type": "FINITE"}
        for entry in ending
        if entry.value is not None
    ])  # fmt: skip
    bulk_sql.insert(connection, _intermediate, [
        {
            "trial_id": entry.trial, "step": entry.pruned, "intermediate_value": entry.value,
            "intermediate_value_type": "NAN" if entry.value is None else "FINITE",
        }
        for entry in ending
        if entry.pruned is not None
    ])  # fmt: skip
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        ids = [entry.trial for entry in ending if entry.state == state]
        if ids:
            ended = sa.update(_trials).where(bulk_sql.among(connection, _trials.c.trial_id, ids))
            connection.execute(ended.values(state=state, datetime_complete=_now()))


def _unfinished(connection: Connection, studies: Iterable[int]) -> list[tuple[int, int | None]]:
    slot = sa.and_(_attributes.c.trial_id == _trials.c.trial_id, _attributes.c.key == "slot_id")
    query = sa.select(_trials.c.trial_id, _attributes.c.value_json).outerjoin_from(_trials, _attributes, slot)
    rows = connection.execute(
        query.where(bulk_sql.among(connection, _trials.c.study_id, studies), _trials.c.state.in_(_OPEN))
    )
    return [(trial, None if text is None else json.loads(text)) for trial, text in rows]


def _hidden(connection: Connection, ledger: int, studies: Iterable[int]) -> list[int]:
    its = sa.and_(_trials.c.trial_id == slots.c.trial, bulk_sql.among(connection, _trials.c.study_id, studies))
    wrong = sa.and_(_trials.c.state == TrialState.FAIL, slots.c.value.is_not(None))
    query = sa.select(slots.c.id).outerjoin_from(slots, _trials, its)
    finished = sa.and_(slots.c.study_id == ledger, slots.c.state == "done")
    found = query.where(finished, sa.or_(_trials.c.trial_id.is_(None), wrong))
    return list(connection.scalars(found.order_by(slots.c.id)))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
