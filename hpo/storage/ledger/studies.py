"""Making, opening, enlarging and deleting the studies of a ledger."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hpo.errors import UsageError
from hpo.storage import bulk_sql, schema
from hpo.storage.database import lock_table, now, run_with_retry
from hpo.storage.ledger import changed_code
from hpo.storage.ledger.definition_diff import describe_changes
from hpo.storage.ledger.rerun_settings import new_slot
from hpo.storage.ledger.retries import failed_configurations
from hpo.storage.ledger.scheduler import batch_sizes
from hpo.storage.schema import slots, studies

# Rerun s has seed 1000 + s; tuning run r has as many seeds from 0 on as a trial has models: never the same.
RERUN_SEED = 1000
# The numbers that may be raised, and the flag that says each; its words name it.
PLANNED = {"trials": "--trials", "seeds": "--seeds", "tuning_runs": "--tuning-runs"}


def ensure(
    connection: Connection,
    name: str,
    definition: Mapping[str, Any],
    digest: str,
    planned: Mapping[str, int],
    text: Mapping[str, Any],
    fingerprint: Mapping[str, str],
    asked: Collection[str],
    accept_changed_code: bool,
) -> tuple[Any, list[str]]:
    """The study's row and warnings; see `hpo.storage.ledger.open_study`."""
    lock_table(connection, studies)
    row = find(connection, name)
    if row is None:
        return _create(connection, name, definition, digest, planned, text, fingerprint), []
    if row.digest != digest:
        raise UsageError(
            f"study {name!r} exists with another definition ({describe_changes(row.definition, definition)}); "
            "give this one another --name, or start afresh with --fresh, which deletes the old results"
        )
    notes, warnings = list(row.notes), []
    if dict(fingerprint) != row.fingerprint:
        warnings += changed_code.warn(connection, row, fingerprint, accept_changed_code)
        notes += [{"time": now(connection), "event": event} for event in warnings]
        changed_code.reopen_failed(connection, row.id)
    notes += _raise(connection, row, definition, {key: planned[key] for key in asked if key in planned})
    changed = {"text": dict(text), "fingerprint": dict(fingerprint), "notes": notes}
    connection.execute(sa.update(studies).where(studies.c.id == row.id).values(changed))
    return find(connection, name), warnings


def find(connection: Connection, name: str) -> Any | None:
    return connection.execute(sa.select(studies).where(studies.c.name == name)).one_or_none()


def lock(connection: Connection, study: int) -> None:
    """Keeps others from changing what a study has left to do until the transaction ends (on PostgreSQL).

    Whoever locks a study's slots as well does it after this; and whoever makes or raises a study locks the whole table
    first, with which this one's first lock conflicts.
    """
    lock_table(connection, studies, "ROW EXCLUSIVE")
    connection.execute(sa.select(studies.c.id).where(studies.c.id == study).with_for_update())


def names(engine: Engine) -> list[str]:
    """All studies of this database, in alphabetical order."""
    return run_with_retry(
        engine, lambda connection: list(connection.scalars(sa.select(studies.c.name).order_by("name")))
    )


def remove(connection: Connection, study: int) -> None:
    """Deletes a study with everything it holds."""
    lock(connection, study)  # first the study, then its slots, as everybody does: nobody adds to them meanwhile
    own = sa.select(slots.c.id).where(slots.c.study_id == study).order_by(slots.c.id)
    connection.execute(own.with_for_update())
    ids = sa.select(slots.c.id).where(slots.c.study_id == study)
    connection.execute(sa.delete(schema.curves).where(schema.curves.c.slot_id.in_(ids)))
    for table in (schema.failures, schema.workers, slots):
        connection.execute(sa.delete(table).where(table.c.study_id == study))
    connection.execute(sa.delete(studies).where(studies.c.id == study))


def words(flag: str) -> str:
    """What a flag is called in a sentence: "tuning runs" for "--tuning-runs"."""
    return flag.removeprefix("--").replace("-", " ")


def _create(
    connection: Connection,
    name: str,
    definition: Mapping[str, Any],
    digest: str,
    planned: Mapping[str, int],
    text: Mapping[str, Any],
    fingerprint: Mapping[str, str],
) -> Any:
    numbers = {key: planned.get(key, 1) for key in PLANNED}
    row = {
        "name": name,
        "definition": dict(definition),
        "digest": digest,
        "text": dict(text),
        "fingerprint": dict(fingerprint),
        "created": now(connection),
        "notes": [],
        "settings_assigned": 0,
    }
    connection.execute(sa.insert(studies).values(row | numbers))
    made = find(connection, name)
    assert made is not None
    _add_slots(connection, made.id, definition, dict.fromkeys(PLANNED, 0), numbers)
    return made


def _raise(
    connection: Connection, row: Any, definition: Mapping[str, Any], planned: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Adds the slots that higher planned numbers need; returns the notes to be kept."""
    before = {key: getattr(row, key) for key in PLANNED}
    after = before | dict(planned)
    for key, flag in PLANNED.items():
        if after[key] < before[key]:
            raise UsageError(
                f"study {row.name!r} was planned with {before[key]} {words(flag)} and {after[key]} are asked for; "
                f"planned numbers may only be raised: give {flag} {before[key]} or more, another --name, or --fresh"
            )
    needed = (
        before["seeds"] + after["tuning_runs"] - before["tuning_runs"]
    )  # seeds stay with the tuning run that had them
    if after["seeds"] < needed:
        raise UsageError(
            f"study {row.name!r} has {after['seeds']} seeds, of which none would be left for some of "
            f"{after['tuning_runs']} tuning runs; give --seeds {needed} or more"
        )
    models = definition.get("seeds_per_trial", 1)
    if after["tuning_runs"] * models > RERUN_SEED:
        raise UsageError(
            f"study {row.name!r} can have {RERUN_SEED // models} tuning runs at most, for tuning has {RERUN_SEED} "
            "seeds of its own; give fewer"
        )
    if after == before:
        return []
    _add_slots(connection, row.id, definition, before, after)
    connection.execute(sa.update(studies).where(studies.c.id == row.id).values(after | {"settings_assigned": 0}))
    when = " after a report" if row.reported is not None else ""
    return [
        {"time": now(connection), "event": f"{words(flag)} raised from {before[key]} to {after[key]}{when}"}
        for key, flag in PLANNED.items()
        if after[key] != before[key]
    ]


def _add_slots(
    connection: Connection,
    study: int,
    definition: Mapping[str, Any],
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> None:
    failed = failed_configurations(connection, study)
    rounds = _newest(connection, study, slots.c.round)
    batches = {key: newest + 1 for key, newest in _newest(connection, study, slots.c.batch).items()}
    models = definition.get("seeds_per_trial", 1)
    new_seeds = _spread(connection, study, range(before["seeds"], after["seeds"]), after["tuning_runs"])
    rows = []
    for configuration in definition["configurations"]:
        name, own = configuration["name"], configuration.get("trials")
        over = {"state": "failed", "cause": failed[name], "finished": now(connection)} if name in failed else {}
        for tuning_run in range(after["tuning_runs"]):
            first, total = 0 if tuning_run >= before["tuning_runs"] else own or before["trials"], own or after["trials"]
            sizes = batch_sizes(first, total)
            numbers = [
                number for number, size in enumerate(sizes, batches.get((name, tuning_run), 0)) for _ in range(size)
            ]
            for slot, number in zip(range(first, total), numbers, strict=True):
                rows.append(new_slot(study, name, tuning_run, "tune", slot, tuning_run * models, number) | over)
        for slot, tuning_run in new_seeds.items():
            made = new_slot(study, name, tuning_run, "rerun", slot, RERUN_SEED + slot)
            rows.append(made | {"round": rounds.get((name, tuning_run), 0)} | over)
    if rows:
        keys = {key for row in rows for key in row}
        bulk_sql.insert(connection, slots, [dict.fromkeys(keys) | row for row in rows])


def _spread(connection: Connection, study: int, new: Iterable[int], tuning_runs: int) -> dict[int, int]:
    """The tuning run of every new rerun slot: the one with the fewest so far, the first of several."""
    reruns = sa.select(slots.c.slot, slots.c.tuning_run).where(slots.c.study_id == study, slots.c.phase == "rerun")
    taken = Counter(row.tuning_run for row in connection.execute(reruns.distinct()))
    chosen = {}
    for slot in new:
        chosen[slot] = min(range(tuning_runs), key=lambda tuning_run: taken[tuning_run])
        taken[chosen[slot]] += 1
    return chosen


def _newest(connection: Connection, study: int, column: sa.Column[int]) -> dict[tuple[str, int], int]:
    """The highest round or batch of every configuration and tuning run."""
    query = sa.select(slots.c.configuration, slots.c.tuning_run, sa.func.max(column))
    found = query.where(slots.c.study_id == study).group_by(slots.c.configuration, slots.c.tuning_run)
    return {(configuration, tuning_run): newest for configuration, tuning_run, newest in connection.execute(found)}


def note_report(connection: Connection, study: int) -> None:
    connection.execute(sa.update(studies).where(studies.c.id == study).values(reported=now(connection)))
