"""Many rows in one statement, on both databases: values come back as they were, and nothing else is touched."""

import random
from typing import Any

import sqlalchemy as sa
from storage_study import make

from hpo.storage import bulk_sql, curves
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome
from hpo.storage.schema import failures, slots
from tests.storage.test_ledger import take

AWKWARD = [0.1, 1 / 3, 1e-308, 5e-324, 1.7976931348623157e308, -0.0, 123456789.12345679]


def stored(engine: sa.Engine, table: sa.Table) -> list[dict[str, Any]]:
    with engine.begin() as connection:
        return [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.id)).mappings()]


def test_inserted_rows_are_as_they_were(url: str) -> None:
    engine = connect(url)
    study = make(engine).id
    causes = ['quote " and \\ and {braces}', "NULL", "", "zwei\nZeilen, ein Komma", "ρ"]
    rows = [
        {"study_id": study, "slot_id": number, "attempt": 1, "cause": cause, "message": cause[::-1],
         "setting": None if number == 2 else {"a": AWKWARD[number], cause: -1.0}, "time": AWKWARD[number]}
        for number, cause in enumerate(causes)
    ]  # fmt: skip
    with engine.begin() as connection:
        bulk_sql.insert(connection, failures, rows)
        bulk_sql.insert(connection, failures, [])
    assert [{key: row[key] for key in rows[0]} for row in stored(engine, failures)] == rows


def test_updates_touch_their_rows_alone(url: str) -> None:
    engine = connect(url)
    make(engine)
    before = stored(engine, slots)
    rows = [
        {"id": row["id"], "setting": {"rate": value}, "value": value, "cause": None, "trial": number}
        for number, (row, value) in enumerate(zip(before[1:], AWKWARD, strict=False))
    ]
    with engine.begin() as connection:
        bulk_sql.update(connection, slots, rows, slots.c.id != rows[-1]["id"], state="done", worker_id=None)
        bulk_sql.update(connection, slots, [])
    after = {row["id"]: row for row in stored(engine, slots)}
    for row in rows[:-1]:
        assert {key: after[row["id"]][key] for key in row} == row and after[row["id"]]["state"] == "done"
    touched = {row["id"] for row in rows[:-1]}
    assert [after[row["id"]] for row in before if row["id"] not in touched] == [
        row for row in before if row["id"] not in touched
    ]


def test_numbers_come_back_bit_for_bit(url: str) -> None:
    ledger = make(connect(url), trials=40)
    rng = random.Random(0)
    work = take(ledger, "x")
    values = [rng.uniform(-1, 1) * 10 ** rng.uniform(-300, 300) for _ in range(1000)] + AWKWARD
    ledger.finish("x", [Outcome(work.slots[0].id, 1, values[0], result={"a": values[1]}, curves={"m": values})])
    assert curves.read(ledger.engine, "s")["value"].tolist() == values
    row = ledger.export()["slots"][0]
    assert (row["value"], row["result"]) == (values[0], {"a": values[1]})


def statements(ledger: Ledger, size: int) -> list[int]:
    """How many statements it takes to lease, renew, note, release, fail, lease again and finish `size` slots.

    A list of rows counts as a statement a row on PostgreSQL; on SQLite it is one prepared statement.
    """
    counts = [0]

    @sa.event.listens_for(ledger.engine, "before_cursor_execute")
    def count(*arguments: Any) -> None:
        _, _, _, parameters, _, many = arguments
        counts[-1] += len(parameters) if many and ledger.engine.dialect.name == "postgresql" else 1

    work = take(ledger, "x", size)
    assert len(work.slots) in (size, size - 1)  # the first of a population may be finished
    counts.append(0)
    ledger.extend_lease("x", [slot.id for slot in work.slots])
    counts.append(0)
    ledger.note_trials("x", {slot.id: slot.id for slot in work.slots})
    counts.append(0)
    ledger.release("x")
    work = take(ledger, "x", size)
    counts.append(0)
    ledger.fail("x", work.slots, "lost worker", "a test")
    counts.append(0)
    work = take(ledger, "x", size)
    counts.append(0)
    ledger.finish("x", [Outcome(slot.id, slot.attempt, 0.5, curves={"m": [0.1, 0.2]}) for slot in work.slots])
    sa.event.remove(ledger.engine, "before_cursor_execute", count)
    return counts


def test_a_population_takes_as_many_statements_as_one_run(url: str) -> None:
    ledger = make(connect(url), trials=1, seeds=100)
    for _ in range(4):  # tuning of both, a rerun that first chooses the settings of all, and another
        one = statements(ledger, 1)
    assert statements(ledger, 50) == one
