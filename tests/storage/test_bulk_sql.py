"""Many rows in one statement, on both databases: values are stored exactly, and no other row changes."""

import random
from typing import Any

import pytest
import sqlalchemy as sa
from storage_study import counted_statements, make

from hpo.storage import bulk_sql, curves
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome
from hpo.storage.schema import failures, slots
from tests.storage.test_ledger import take

AWKWARD = [0.1, 1 / 3, 1e-308, 5e-324, 1.7976931348623157e308, -0.0, 123456789.12345679]


@pytest.fixture
def ledger(url: str) -> Ledger:
    return make(connect(url), trials=40)


def stored(ledger: Ledger, table: sa.Table) -> list[dict[str, Any]]:
    with ledger.engine.begin() as connection:
        return [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.id)).mappings()]


def test_inserted_rows_are_stored_exactly(ledger: Ledger) -> None:
    texts = ['quote " and \\ and {braces}', "NULL", "", "two\nlines, a comma", "ρ"]
    rows = [
        {"study_id": ledger.id, "slot_id": number, "attempt": 1, "cause": text, "message": text[::-1],
         "setting": None if number == 2 else {"a": AWKWARD[number], text: -1.0}, "time": AWKWARD[number]}
        for number, text in enumerate(texts)
    ]  # fmt: skip
    with ledger.engine.begin() as connection:
        bulk_sql.insert(connection, failures, rows)
        bulk_sql.insert(connection, failures, [])
    assert [{key: row[key] for key in rows[0]} for row in stored(ledger, failures)] == rows


def test_an_update_changes_its_rows_only(ledger: Ledger) -> None:
    before = stored(ledger, slots)
    rows = [
        {"id": row["id"], "setting": {"rate": value}, "value": value, "cause": None, "trial": number}
        for number, (row, value) in enumerate(zip(before[1:], AWKWARD, strict=False))
    ]
    with ledger.engine.begin() as connection:
        bulk_sql.update(connection, slots, rows, slots.c.id != rows[-1]["id"], state="done", worker_id=None)
        bulk_sql.update(connection, slots, [])
    changes = {row["id"]: row | {"state": "done", "worker_id": None} for row in rows[:-1]}
    assert stored(ledger, slots) == [row | changes.get(row["id"], {}) for row in before]


def test_numbers_are_stored_bit_for_bit(ledger: Ledger) -> None:
    rng = random.Random(0)
    work = take(ledger, "x")
    values = [rng.uniform(-1, 1) * 10 ** rng.uniform(-300, 300) for _ in range(1000)] + AWKWARD
    ledger.finish("x", [Outcome(work.slots[0].id, 1, values[0], result={"a": values[1]}, curves={"m": values})])
    assert curves.read(ledger.engine, "s")["value"].tolist() == values
    row = ledger.export()["slots"][0]
    assert (row["value"], row["result"]) == (values[0], {"a": values[1]})


def test_a_population_takes_as_many_statements_as_one_run(url: str) -> None:
    ledger = make(connect(url), trials=1, seeds=100)

    def statements(size: int) -> list[int]:
        """Of leasing, extending, storing trials, releasing, failing and finishing `size` slots."""
        counts = []
        work = take(ledger, "x", size)
        assert len(work.slots) in (size, size - 1)  # the first of a population may be finished
        ids = [slot.id for slot in work.slots]
        for call in (
            lambda: ledger.extend_lease("x", ids),
            lambda: ledger.note_trials("x", {id: id for id in ids}),
            lambda: ledger.release("x"),
            lambda: take(ledger, "x", size),
            lambda: ledger.fail("x", [slot._replace(attempt=1) for slot in work.slots], "lost worker", "a test"),
            lambda: take(ledger, "x", size),
            lambda: ledger.finish("x", [Outcome(id, 2, 0.5, curves={"m": [0.1, 0.2]}) for id in ids]),
        ):
            with counted_statements(ledger.engine) as number:
                call()
            counts += number
        assert {row["state"] for row in ledger.export()["slots"] if row["id"] in ids} == {"done"}
        return counts

    for _ in range(4):  # tuning of both, a rerun that first chooses the settings of all, and another
        one = statements(1)
    assert statements(50) == one
