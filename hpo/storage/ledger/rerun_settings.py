"""From tuning to reruns: the best setting of every tuning run, and the reruns that use it."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import bulk_sql
from hpo.storage.ledger.leases import change
from hpo.storage.ledger.retries import failed_configurations
from hpo.storage.schema import slots, studies
from hpo.storage.transactions import now
from hpo.trials import PRUNED, trial_rank


def settings_assigned(connection: Connection, study: int) -> list[str]:
    """The configurations whose reruns have the settings that tuning chose."""
    return list(connection.scalar(sa.select(studies.c.settings_assigned).where(studies.c.id == study)) or [])


def best_trial(connection: Connection, study: int, configuration: str, tuning_run: int, direction: str) -> Any | None:
    """The slot whose setting the reruns use, or None before any trial is finished.

    Ties go to the lower validation loss, then to the lower slot. A trial without a value is the worst. Pruned trials
    count only if no full-length trial has a score.
    """
    columns = (slots.c.slot, slots.c.setting, slots.c.value, slots.c.result, slots.c.cause)
    query = sa.select(*columns).where(
        slots.c.study_id == study,
        slots.c.configuration == configuration,
        slots.c.tuning_run == tuning_run,
        slots.c.phase == "tune",
        slots.c.state == "done",
    )
    trials = connection.execute(query).all()

    def rank(trial: Any) -> tuple[float, ...]:
        return trial_rank(trial.value, trial.result, trial.slot, direction)

    full_length = [trial for trial in trials if trial.cause != PRUNED]
    went_well = any(trial.cause is None for trial in full_length)
    return min(full_length if went_well else trials, key=rank, default=None)


def assign_best_settings(connection: Connection, study: int, direction: str, configurations: Sequence[str]) -> None:
    """Assigns the setting that tuning chose to every rerun of the newest round; another setting opens a new round.

    Called when the tuning of these configurations is over. Open reruns of an older round are dropped.
    """
    query = sa.select(slots).where(
        slots.c.study_id == study, slots.c.phase == "rerun", slots.c.configuration.in_(configurations)
    )
    reruns: dict[tuple[str, int], list[Any]] = {}
    for row in connection.execute(query.order_by(slots.c.configuration, slots.c.tuning_run, slots.c.slot)):
        reruns.setdefault((row.configuration, row.tuning_run), []).append(row)
    failed = failed_configurations(connection, study)
    for (configuration, tuning_run), rows in reruns.items():
        if configuration in failed:  # nothing chose a setting
            over = {"state": "failed", "cause": failed[configuration], "finished": now(connection)}
            change(connection, _open_ids(rows), over)
        elif best := best_trial(connection, study, configuration, tuning_run, direction):
            _assign(connection, rows, best.setting)
    assigned = [*settings_assigned(connection, study), *configurations]
    connection.execute(sa.update(studies).where(studies.c.id == study).values(settings_assigned=assigned))


def _assign(connection: Connection, rows: Sequence[Any], setting: dict[str, float]) -> None:
    """Assigns `setting` to the newest round of the reruns of one configuration and tuning run."""
    newest = max(row.round for row in rows)
    present = [row for row in rows if row.round == newest]
    if all(row.setting in (None, setting) for row in present if row.state != "open"):
        ids = _open_ids(row for row in present if row.setting != setting)
        change(connection, ids, {"setting": setting, "attempt": 0, "started": None})
        return
    connection.execute(sa.delete(slots).where(slots.c.id.in_(_open_ids(rows))))
    same = ("study_id", "configuration", "tuning_run", "phase", "batch", "slot", "seed")
    bulk_sql.insert(connection, slots, [
        {**{name: getattr(row, name) for name in same}, "state": "open", "round": newest + 1, "setting": setting}
        for row in present
    ])  # fmt: skip


def _open_ids(rows: Iterable[Any]) -> list[int]:
    return [row.id for row in rows if row.state == "open"]
