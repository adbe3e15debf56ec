"""What is left to do: read from the slots that are open or leased, however many are finished."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage.ledger.queries import KEY, group_columns, in_order
from hpo.storage.ledger.scheduler import Choice, Group, choose
from hpo.storage.schema import slots, studies
from hpo.trials import trials_per_run


def unfinished_groups(connection: Connection, study: int, order: Sequence[str]) -> list[Group]:
    """Those of `queries.groups` with open or leased slots, without their `total` and `first`."""
    columns = [slots.c[name] for name in (*KEY, "slot", "state", "started")]
    of_study = sa.select(*columns).where(slots.c.study_id == study)
    # A query for each state: for both at once, SQLite would walk through the whole key to spare itself the sorting.
    unfinished = sa.union_all(*(of_study.where(slots.c.state == state) for state in ("open", "leased"))).subquery()
    key, numbers, lowest = group_columns(unfinished)
    found = sa.select(*key, *numbers, *lowest[1:]).group_by(*key).subquery()
    newest = sa.select(sa.func.max(slots.c.round)).where(
        *(slots.c.study_id == study, slots.c.configuration == found.c.configuration),
        *(slots.c.tuning_run == found.c.tuning_run, slots.c.phase == found.c.phase),
    )
    rows = connection.execute(sa.select(found, newest.scalar_subquery().label("newest"))).all()
    fields = [[*row[:5], 0, *row[5:8], 0, *row[8:10]] for row in rows if row.round == row.newest]
    return in_order([Group(*each) for each in fields], order)


def next_choice(
    connection: Connection,
    study: int,
    definition: Mapping[str, Any],
    groups: Sequence[Group],
    size: int,
    populations: int = 1,
) -> Choice | None:
    """See `scheduler.choose`.

    Args:
        groups: the result of `unfinished_groups` in this transaction, which holds the study's lock.
    """
    if not groups:
        return None
    columns = (studies.c.trials, studies.c.seeds, studies.c.tuning_runs)
    trials, seeds, tuning_runs = connection.execute(sa.select(*columns).where(studies.c.id == study)).one()
    totals: dict[tuple[str, str], int] = {}
    for entry in definition["configurations"]:
        totals[entry["name"], "tune"] = trials_per_run(entry, trials) * tuning_runs
        totals[entry["name"], "rerun"] = seeds
    order = [entry["name"] for entry in definition["configurations"]]
    return choose(in_order(_with_batches(connection, study, groups, tuning_runs), order), totals, size, populations)


def _with_batches(connection: Connection, study: int, groups: Sequence[Group], tuning_runs: int) -> list[Group]:
    """The groups, and those of the first unfinished batch of trials in all tuning runs with `total` and `first`."""
    batches: dict[str, int] = {}
    for group in groups:
        if group.phase == "tune":
            batches[group.configuration] = min(group.batch, batches.get(group.configuration, group.batch))
    found = {tuple(getattr(group, name) for name in KEY): group for group in groups}
    key, _, (lowest, *_) = group_columns(slots)
    for configuration, batch in batches.items():
        query = sa.select(*key, sa.func.count(), lowest).where(
            *(slots.c.study_id == study, slots.c.configuration == configuration),
            slots.c.tuning_run.in_(range(tuning_runs)),  # so that the database finds the batch by the table's key
            *(slots.c.phase == "tune", slots.c.round == 0, slots.c.batch == batch),
        )
        for *place, total, first in connection.execute(query.group_by(*key)):
            present = found.get(tuple(place), Group(*place))
            found[tuple(place)] = replace(present, total=total, first=first)
    return list(found.values())
