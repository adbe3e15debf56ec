"""The counts of a study, grouped by the database, are those that counting its rows one by one gives."""

import itertools
import random
from typing import Any

import pytest
import sqlalchemy as sa
from storage_study import definition, make

from hpo.storage import bulk_sql
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, open_study
from hpo.storage.ledger.queries import groups
from hpo.storage.ledger.scheduler import Group
from hpo.storage.schema import failures, slots


def recount(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """From all rows."""
    exported = ledger.export()
    rows = exported["slots"]
    newest: dict[tuple[str, int, str], int] = {}
    for row in rows:
        key = (row["configuration"], row["tuning_run"], row["phase"])
        newest[key] = max(newest.get(key, 0), row["round"])
    found = {}
    for name in ledger.configurations:
        of = {row["id"] for row in rows if row["configuration"] == name}
        present = [
            row for row in rows if row["id"] in of and row["round"] == newest[name, row["tuning_run"], row["phase"]]
        ]
        tune, rerun = ([row for row in present if row["phase"] == phase] for phase in ("tune", "rerun"))
        done = [row for row in present if row["state"] == "done"]
        whole = [row for row in done if row["phase"] == "tune" and row["cause"] != "pruned"]
        values = [row["value"] for row in whole if row["value"] is not None]
        causes = [entry["cause"] for entry in exported["failures"] if entry["slot_id"] in of]
        best = max if ledger.direction == "maximize" else min
        found[name] = {
            "trials_total": len(tune),
            "trials_done": sum(row["state"] == "done" for row in tune),
            "reruns_total": len(rerun),
            "reruns_done": sum(row["state"] == "done" for row in rerun),
            "leased": sum(row["state"] == "leased" for row in present),
            "failed": sum(row["state"] == "failed" for row in present),
            "diverged": sum(row["cause"] == "diverged" for row in done),
            "pruned": sum(row["cause"] == "pruned" for row in done),
            "without a finite score": sum(row["cause"] == "without a finite score" for row in done),
            "failures": {cause: causes.count(cause) for cause in causes},
            "best": best(values, default=None),
        }
    return found


def regroup(ledger: Ledger) -> list[Group]:
    """What is left to do, from all rows."""
    with ledger.engine.begin() as connection:
        rows = connection.execute(sa.select(slots).where(slots.c.study_id == ledger.id)).all()
    found = []
    for name, tuning_run, phase in itertools.product(ledger.configurations, (0, 1), ("rerun", "tune")):
        mine = [row for row in rows if (row.configuration, row.tuning_run, row.phase) == (name, tuning_run, phase)]
        newest = max(row.round for row in mine)
        present = [row for row in mine if row.round == newest]
        for batch in sorted({row.batch for row in present}):
            own = [row for row in present if row.batch == batch]
            opened = [row.slot for row in own if row.state == "open"]
            again = [row.slot for row in own if row.state == "open" and row.started is not None]
            leased = sum(row.state == "leased" for row in own)
            counts = (len(own), len(opened), leased, len(again))
            lowest = (min(row.slot for row in own), min(opened, default=None), min(again, default=None))
            found.append(Group(name, tuning_run, phase, newest, batch, *counts, *lowest))
    return found


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_counts_are_those_of_the_rows(url: str, direction: str) -> None:
    engine = connect(url)
    whole = definition(direction=direction)
    ledger = open_study(engine, "s", whole, "d", {"trials": 40, "seeds": 8, "tuning_runs": 2}, {"title": "t"}, {})
    make(engine, "another")
    assert ledger.counts() == recount(ledger)
    rng = random.Random(0)
    rows = ledger.export()["slots"]
    states = ["open", "leased", "done", "done", "failed"]
    causes = [None, "diverged", "pruned", "without a finite score", "exception"]
    with engine.begin() as connection:
        bulk_sql.update(connection, slots, [
            {"id": row["id"], "state": rng.choice(states), "cause": rng.choice(causes),
             "started": rng.choice([None, 1.0]), "value": rng.choice([None, rng.random()])}
            for row in rows
        ])  # fmt: skip
        old = sa.and_(slots.c.id == rows[-1]["id"])
        connection.execute(sa.update(slots).where(old).values(round=1))  # the rest of its group is an older round
        bulk_sql.insert(connection, failures, [
            {"study_id": ledger.id, "slot_id": rng.choice(rows)["id"], "attempt": 1, "message": "", "setting": None,
             "cause": rng.choice(["lost worker", "timeout"]), "time": 0.0}
            for _ in range(30)
        ])  # fmt: skip
    assert ledger.counts() == recount(ledger)
    expected = regroup(ledger)
    with engine.begin() as connection:
        assert groups(connection, ledger.id, ledger.configurations) == expected
    assert ledger.counts()["A"]["best"] is not None and ledger.counts()["B"]["reruns_total"] == 5
