"""Counts and groups, which the database computes, equal those of its rows counted one by one."""

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from storage_study import definition, make

from hpo.storage import bulk_sql
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, open_study
from hpo.storage.ledger.queries import ENDS
from hpo.storage.ledger.scheduler import Group, choose
from hpo.storage.ledger.unfinished import next_choice, unfinished_groups
from hpo.storage.schema import failures, slots


def stored(ledger: Ledger, table: sa.Table) -> list[Any]:
    with ledger.engine.begin() as connection:
        return list(connection.execute(sa.select(table).where(table.c.study_id == ledger.id)).all())


def newest(rows: list[Any], configuration: str, tuning_run: int, phase: str) -> list[Any]:
    """The rows of the newest round."""
    key = (configuration, tuning_run, phase)
    result = [row for row in rows if (row.configuration, row.tuning_run, row.phase) == key]
    last = max((row.round for row in result), default=0)
    return [row for row in result if row.round == last]


def recount(ledger: Ledger) -> dict[str, dict[str, Any]]:
    rows, result = stored(ledger, slots), {}
    for name in ledger.configurations:
        ids = {row.id for row in rows if row.configuration == name}
        tune, rerun = ([row for run in (0, 1) for row in newest(rows, name, run, phase)] for phase in ("tune", "rerun"))
        states = [row.state for row in [*tune, *rerun]]
        done = [row for row in [*tune, *rerun] if row.state == "done"]
        values = [row.value for row in done if row.phase == "tune" and row.cause != "pruned" and row.value is not None]
        causes = [row.cause for row in stored(ledger, failures) if row.slot_id in ids]
        result[name] = {
            "trials_total": len(tune),
            "trials_done": sum(row.state == "done" for row in tune),
            "reruns_total": len(rerun),
            "reruns_done": sum(row.state == "done" for row in rerun),
            "leased": states.count("leased"),
            "failed": states.count("failed"),
            **{end: sum(row.cause == end for row in done) for end in ENDS},
            "failures": {cause: causes.count(cause) for cause in causes},
            "best": (max if ledger.direction == "maximize" else min)(values, default=None),
            "seconds": pytest.approx(sum(row.seconds or 0 for row in done)),
        }
    return result


def regroup(ledger: Ledger) -> list[Group]:
    rows, result = stored(ledger, slots), []
    for name, tuning_run, phase in itertools.product(ledger.configurations, (0, 1), ("rerun", "tune")):
        present = newest(rows, name, tuning_run, phase)
        for batch in sorted({row.batch for row in present}):
            group = [row for row in present if row.batch == batch]
            opened = [row.slot for row in group if row.state == "open"]
            interrupted = [row.slot for row in group if row.state == "open" and row.started is not None]
            leased = sum(row.state == "leased" for row in group)
            numbers = (len(group), len(opened), leased, len(interrupted))
            lowest = (min(row.slot for row in group), min(opened, default=None), min(interrupted, default=None))
            result.append(Group(name, tuning_run, phase, group[0].round, batch, *numbers, *lowest))
    return result


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_counts_and_groups_are_those_of_the_rows(url: str, direction: str) -> None:
    engine = connect(url)
    planned = {"trials": 40, "seeds": 8, "tuning_runs": 2}
    ledger = open_study(engine, "s", definition(direction=direction), "d", planned, {"title": "t"}, {})
    make(engine, "another")
    assert ledger.counts() == recount(ledger)
    rng = random.Random(0)
    rows = stored(ledger, slots)
    states = ["open", "leased", "done", "done", "failed"]
    causes = [None, "diverged", "pruned", "without a finite score", "exception"]
    with engine.begin() as connection:
        bulk_sql.update(connection, slots, [
            {"id": row.id, "state": rng.choice(states), "cause": rng.choice(causes),
             "started": rng.choice([None, 1.0]), "value": rng.choice([None, rng.random()])}
            for row in rows
        ])  # fmt: skip
        connection.execute(sa.update(slots).where(slots.c.id == rows[-1].id).values(round=1))  # of its group the newest
        bulk_sql.insert(connection, failures, [
            {"study_id": ledger.id, "slot_id": rng.choice(rows).id, "attempt": 1, "message": "", "setting": None,
             "cause": rng.choice(["lost worker", "timeout"]), "time": 0.0}
            for _ in range(30)
        ])  # fmt: skip
    assert ledger.counts() == recount(ledger) and ledger.groups() == regroup(ledger)
    unfinished = [replace(group, total=0, first=0) for group in regroup(ledger) if group.unfinished]
    with engine.begin() as connection:
        assert unfinished_groups(connection, ledger.id, ledger.configurations) == unfinished
    assert ledger.counts()["A"]["best"] is not None and ledger.counts()["B"]["reruns_total"] == 5


def test_what_is_leased_next_follows_from_all_slots(url: str) -> None:
    """`next_choice` reads the unfinished slots; here the choice is made from every slot, at each step of a study."""
    engine = connect(url)
    planned = {"trials": 20, "seeds": 5, "tuning_runs": 2}
    ledger = open_study(engine, "s", definition(), "d", planned, {"title": "t"}, {})
    rng, numbers = random.Random(1), {"tune": 40, "rerun": 5}
    totals = {(name, phase): number for name in ledger.configurations for phase, number in numbers.items()}
    phases = set()
    for step in range(200):
        with engine.begin() as connection:
            size = rng.choice([1, 3, 8])
            groups = unfinished_groups(connection, ledger.id, ledger.configurations)
            choice = next_choice(connection, ledger.id, ledger.definition, groups, size)
        assert choice == choose(regroup(ledger), totals, size), step
        assert ledger.state() == ("work" if choice else "wait" if groups else "done")
        phases |= {choice.phase} if choice else set()
        work = ledger.lease("x", size) if rng.random() < 0.7 else None
        held = [row for row in stored(ledger, slots) if row.state == "leased"]
        if (held and rng.random() < 0.5) or not choice:
            some = [row for row in held if rng.random() < 0.6]
            if rng.random() < 0.3:
                ledger.release("x", [row.id for row in some])
            else:
                ledger.finish("x", [Outcome(row.id, row.attempt, rng.random()) for row in some])
        elif work and rng.random() < 0.8:
            ledger.assign("x", work, [{"learning_rate": rng.random()} for slot in work.slots if slot.setting is None])
    assert ledger.state() == "done" and phases == {"tune", "rerun"}
