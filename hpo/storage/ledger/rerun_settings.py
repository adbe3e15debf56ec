"""From tuning to reruns: the best setting of every tuning run, and the reruns that use it."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import bulk_sql
from hpo.storage.database import now
from hpo.storage.ledger.retries import failed_configurations
from hpo.storage.schema import slots, studies
from hpo.trials import PRUNED, trial_rank


def best(connection: Connection, study: int, configuration: str, tuning_run: int, direction: str) -> Any | None:
    """The slot whose setting the reruns use, or None before any trial is finished.

    Ties go to the lower validation loss, then to the lower slot. A run without a value is the worst. Pruned trials
    count where none of full length went well.
    """
    columns = (slots.c.slot, slots.c.setting, slots.c.value, slots.c.result, slots.c.cause)
    rows = connection.execute(
        sa.select(*columns).where(
            slots.c.study_id == study,
            slots.c.configuration == configuration,
            slots.c.tuning_run == tuning_run,
            slots.c.phase == "tune",
            slots.c.state == "done",
        )
    ).all()

    def rank(row: Any) -> tuple[float, ...]:
        return trial_rank(row.value, row.result, row.slot, direction)

    full_length = [row for row in rows if row.cause != PRUNED]
    return min(full_length if any(row.cause is None for row in full_length) else rows, key=rank, default=None)


def assign_best_settings(connection: Connection, study: int, direction: str) -> None:
    """Gives every rerun of the newest round the setting that tuning chose; a change opens a new round.

    Called when all tuning is over. What is left open of an older round is dropped: its setting is old.
    """
    rerun = sa.and_(slots.c.study_id == study, slots.c.phase == "rerun")
    query = (
        sa.select(slots).where(rerun).order_by(slots.c.configuration, slots.c.tuning_run, slots.c.round, slots.c.slot)
    )
    groups: dict[tuple[str, int], list[Any]] = {}
    for row in connection.execute(query):
        groups.setdefault((row.configuration, row.tuning_run), []).append(row)
    failed = failed_configurations(connection, study)
    for (configuration, tuning_run), rows in groups.items():
        if configuration in failed:
            _drop(connection, rows, failed[configuration])
            continue
        chosen = best(connection, study, configuration, tuning_run, direction)
        if chosen is not None:
            _use(connection, rows, chosen.setting)
    connection.execute(sa.update(studies).where(studies.c.id == study).values(settings_assigned=1))


def _drop(connection: Connection, rows: Sequence[Any], cause: str) -> None:
    """Fails the open reruns of a configuration whose tuning failed: nothing chose a setting for them."""
    ids = [row.id for row in rows if row.state == "open"]
    over = {"state": "failed", "cause": cause, "finished": now(connection)}
    connection.execute(sa.update(slots).where(bulk_sql.among(connection, slots.c.id, ids)).values(over))


def _use(connection: Connection, rows: Sequence[Any], setting: dict[str, float]) -> None:
    """Points one configuration's and tuning run's newest round at `setting`."""
    newest = max(row.round for row in rows)
    present = [row for row in rows if row.round == newest]
    begun = [row for row in present if row.state in ("leased", "done", "failed")]
    if all(row.setting in (None, setting) for row in begun):
        ids = [row.id for row in present if row.state == "open" and row.setting != setting]
        _set_open(connection, ids, setting)
        return
    drop = [row.id for row in rows if row.state == "open"]
    connection.execute(sa.delete(slots).where(slots.c.id.in_(drop)))
    connection.execute(
        sa.insert(slots),
        [
            new_slot(row.study_id, row.configuration, row.tuning_run, "rerun", row.slot, row.seed)
            | {"round": newest + 1, "setting": setting}
            for row in present
        ],
    )


def _set_open(connection: Connection, ids: Sequence[int], setting: dict[str, float]) -> None:
    fresh = {"setting": setting, "attempt": 0, "started": None}
    connection.execute(sa.update(slots).where(slots.c.id.in_(ids)).values(fresh))


def new_slot(
    study: int, configuration: str, tuning_run: int, phase: str, slot: int, seed: int, batch: int = 0
) -> dict[str, Any]:
    """A row of `slots` that nobody has touched yet."""
    return {
        "study_id": study,
        "configuration": configuration,
        "tuning_run": tuning_run,
        "phase": phase,
        "round": 0,
        "batch": batch,
        "slot": slot,
        "seed": seed,
        "state": "open",
        "attempt": 0,
        "replacements": 0,
        "setting": None,
        "cause": None,
    }
