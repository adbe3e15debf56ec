"""The planned numbers of a study, which may be raised, and the slots that they need."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.errors import UsageError
from hpo.space import cmaes_generation
from hpo.storage import bulk_sql
from hpo.storage.ledger.retries import failed_configurations
from hpo.storage.ledger.scheduler import batch_sizes
from hpo.storage.schema import slots, studies
from hpo.storage.transactions import now
from hpo.trials import sampler_of, trials_per_run

# Rerun s has seed 1000 + s. Seeds of tuning runs count from 0, one per model of a trial, and stay below 1000.
RERUN_SEED = 1000
# Planned number → the flag that sets it.
PLANNED = {"trials": "--trials", "seeds": "--seeds", "tuning_runs": "--tuning-runs"}


def words(flag: str) -> str:
    """A flag in a sentence: "tuning runs" for "--tuning-runs"."""
    return flag.removeprefix("--").replace("-", " ")


def raise_planned(
    connection: Connection, row: Any, definition: Mapping[str, Any], planned: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Adds the slots that higher planned numbers need; returns the notes to store.

    Raises:
        UsageError: a number is lower than before, or does not fit the others.
    """
    before = {key: getattr(row, key) for key in PLANNED}
    after = before | dict(planned)
    _check(row.name, before, after, definition.get("seeds_per_trial", 1))
    if after == before:
        return []
    add_slots(connection, row.id, definition, before, after)
    values = after | {"settings_assigned": []}
    connection.execute(sa.update(studies).where(studies.c.id == row.id).values(values))
    when = " after a report" if row.reported is not None else ""
    return [
        {
            "time": now(connection), "event": f"{words(flag)} raised from {before[key]} to {after[key]}{when}",
            "raised": {flag: [before[key], after[key]]},
        }
        for key, flag in PLANNED.items()
        if after[key] != before[key]
    ]  # fmt: skip


def _check(name: str, before: Mapping[str, int], after: Mapping[str, int], models: int) -> None:
    for key, flag in PLANNED.items():
        if after[key] < before[key]:
            raise UsageError(
                f"study {name!r} was planned with {before[key]} {words(flag)}, and planned numbers can only be raised, "
                f"not lowered to {after[key]}; give {flag} {before[key]} or more, another --name, or --fresh"
            )
    needed = before["seeds"] + after["tuning_runs"] - before["tuning_runs"]
    if after["seeds"] < needed:
        raise UsageError(
            f"the present seeds of study {name!r} ({before['seeds']}) stay with its present tuning runs "
            f"({before['tuning_runs']}), so that {after['seeds']} seeds leave none for some of {after['tuning_runs']} "
            f"tuning runs; give --seeds {needed} or more"
        )
    if after["tuning_runs"] * models > RERUN_SEED:
        raise UsageError(
            f"study {name!r} can have at most {RERUN_SEED // models} tuning runs, because only {RERUN_SEED} seeds are "
            "reserved for tuning; give fewer"
        )


def add_slots(
    connection: Connection,
    study: int,
    definition: Mapping[str, Any],
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> None:
    """Inserts the slots that the planned numbers `after` need in addition to those of `before`."""
    failed = failed_configurations(connection, study)
    newest = _newest_rounds_and_batches(connection, study)
    models = definition.get("seeds_per_trial", 1)
    seeds = _assign_seeds(connection, study, range(before["seeds"], after["seeds"]), after["tuning_runs"])
    rows: list[dict[str, Any]] = []
    for configuration in definition["configurations"]:
        name = configuration["name"]
        earlier, trials = (trials_per_run(configuration, numbers["trials"]) for numbers in (before, after))
        sampler = (sampler_of(definition), cmaes_generation(configuration["space"]))
        finished = now(connection) if name in failed else None
        state = {"state": "failed" if name in failed else "open", "cause": failed.get(name), "finished": finished}
        for tuning_run in range(after["tuning_runs"]):
            first = 0 if tuning_run >= before["tuning_runs"] else earlier
            next_batch = newest.get((name, tuning_run), (0, -1))[1] + 1
            trial = {"phase": "tune", "tuning_run": tuning_run, "round": 0, "seed": tuning_run * models}
            rows += [
                {"study_id": study, "configuration": name, **trial, "batch": batch, "slot": slot, **state}
                for slot, batch in _batches(first, trials, next_batch, *sampler)
            ]
        for seed, tuning_run in seeds.items():
            rerun = {"phase": "rerun", "tuning_run": tuning_run, "round": newest.get((name, tuning_run), (0, 0))[0]}
            number = {"seed": RERUN_SEED + seed, "batch": 0, "slot": seed}
            rows.append({"study_id": study, "configuration": name, **rerun, **number, **state})
    bulk_sql.insert(connection, slots, rows)


def _batches(first: int, total: int, next_batch: int, sampler: str, generation: int) -> Iterator[tuple[int, int]]:
    """(slot, batch) of the slots from `first` up to `total`."""
    sizes = batch_sizes(first, total, sampler, generation)
    batches = (batch for batch, size in enumerate(sizes, next_batch) for _ in range(size))
    return zip(range(first, total), batches, strict=True)


def _assign_seeds(connection: Connection, study: int, seeds: Iterable[int], tuning_runs: int) -> dict[int, int]:
    """Seed → its tuning run; that of a new one is the first of those that have the fewest seeds so far."""
    query = sa.select(slots.c.slot, slots.c.tuning_run).where(slots.c.study_id == study, slots.c.phase == "rerun")
    known = {row.slot: row.tuning_run for row in connection.execute(query.distinct())}
    counts = Counter(known.values())
    assigned = {}
    for seed in seeds:
        if seed not in known:
            known[seed] = min(range(tuning_runs), key=counts.__getitem__)
            counts[known[seed]] += 1
        assigned[seed] = known[seed]
    return assigned


def _newest_rounds_and_batches(connection: Connection, study: int) -> dict[tuple[str, int], tuple[int, int]]:
    """(configuration, tuning run) → its highest round and batch."""
    key = (slots.c.configuration, slots.c.tuning_run)
    query = sa.select(*key, sa.func.max(slots.c.round), sa.func.max(slots.c.batch)).where(slots.c.study_id == study)
    return {(name, run): (newest, batch) for name, run, newest, batch in connection.execute(query.group_by(*key))}
