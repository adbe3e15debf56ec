"""Where Optuna's tables differ from the ledger, as after a crash between the two."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy.engine import Connection, Engine

from hpo.storage import bulk_sql
from hpo.storage.optuna.schema import trial_attributes, trials
from hpo.storage.optuna.trials import UNFINISHED
from hpo.storage.schema import slots
from hpo.storage.transactions import run_with_retry


class Discrepancies(NamedTuple):
    """Where Optuna's tables and the ledger may differ.

    Attributes:
        unfinished: (trial id, whether it is RUNNING, slot id or None) of the trials that have not ended.
        hidden: ids of finished slots that no trial shows, or only one that failed although there is a value.
        rows: slot id → columns, for the slots of `unfinished` and `hidden`.
    """

    unfinished: list[tuple[int, bool, int | None]]
    hidden: list[int]
    rows: dict[int, dict[str, Any]]


def find_discrepancies(
    engine: Engine, ledger: int, configurations: Sequence[str], shown_in: Sequence[int]
) -> Discrepancies:
    """
    Args:
        ledger: the study's id in the ledger. configurations: those that are shown. shown_in: ids of the Optuna studies
            that show them.
    """

    def read(connection: Connection) -> Discrepancies:
        # Trials first: one that is running belongs to a lease, which the rows that are read later contain.
        unfinished = _find_unfinished(connection, shown_in)
        hidden = _find_hidden(connection, ledger, configurations, shown_in)
        ids = {*hidden, *(slot for _, _, slot in unfinished if slot is not None)}
        query = sa.select(slots).where(slots.c.study_id == ledger, bulk_sql.among(connection, slots.c.id, ids))
        return Discrepancies(unfinished, hidden, {row["id"]: dict(row) for row in connection.execute(query).mappings()})

    return run_with_retry(engine, read)


def _find_unfinished(connection: Connection, shown_in: Sequence[int]) -> list[tuple[int, bool, int | None]]:
    slot = sa.and_(trial_attributes.c.trial_id == trials.c.trial_id, trial_attributes.c.key == "slot_id")
    query = sa.select(trials.c.trial_id, trials.c.state, trial_attributes.c.value_json)
    query = query.outerjoin_from(trials, trial_attributes, slot)
    rows = connection.execute(query.where(bulk_sql.among(connection, trials.c.study_id, shown_in), UNFINISHED))
    return [
        (trial, state == TrialState.RUNNING, None if text is None else json.loads(text)) for trial, state, text in rows
    ]


def _find_hidden(
    connection: Connection, ledger: int, configurations: Sequence[str], shown_in: Sequence[int]
) -> list[int]:
    trial_of_slot = sa.and_(trials.c.trial_id == slots.c.trial, bulk_sql.among(connection, trials.c.study_id, shown_in))
    wrong = sa.and_(trials.c.state == TrialState.FAIL, slots.c.value.is_not(None))
    query = sa.select(slots.c.id).outerjoin_from(slots, trials, trial_of_slot).order_by(slots.c.id)
    of_study = sa.and_(slots.c.study_id == ledger, slots.c.configuration.in_(configurations))
    finished = sa.and_(of_study, slots.c.state == "done")
    return list(connection.scalars(query.where(finished, sa.or_(trials.c.trial_id.is_(None), wrong))))
