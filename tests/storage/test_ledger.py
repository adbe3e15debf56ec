"""Leases, takeover, attempts and results."""

import sqlite3
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import storage_study
from postgres_server import PostgresServer
from sqlalchemy.engine import Engine
from storage_study import finish_all, make, outcomes

from hpo.storage import curves, schema, transactions
from hpo.storage.database import connect
from hpo.storage.ledger import FinishedTrial, Ledger, Outcome, Work, new_worker_id, queries
from hpo.storage.ledger.worker_ids import has_ended


@pytest.fixture
def ledger(url: str) -> Ledger:
    return make(connect(url))


def take(ledger: Ledger, worker_id: str, limit: int = 99, seconds: float = 60.0) -> Work:
    """Leases work and gives every new slot a setting of its own."""
    work = ledger.lease(worker_id, limit, seconds)
    assert work is not None
    settings = [{"learning_rate": 0.001 * (slot.slot + 1)} for slot in work.slots if slot.setting is None]
    return ledger.assign(worker_id, work, settings)


def rows(ledger: Ledger, configuration: str = "A", phase: str = "tune") -> list[dict]:
    mine = [row for row in ledger.export()["slots"] if (row["configuration"], row["phase"]) == (configuration, phase)]
    return sorted(mine, key=lambda row: (row["round"], row["slot"]))


def test_batches_are_kept(ledger: Ledger) -> None:
    first, second = take(ledger, "x"), take(ledger, "y")
    assert (first.configuration, len(first.slots)) == ("A", 10) and (second.configuration, len(second.slots)) == (
        "B",
        10,
    )
    assert ledger.lease("z", 99) is None and ledger.state() == "wait"
    ledger.finish("x", outcomes(first)[:9])
    assert ledger.lease("z", 99) is None  # one start-up trial is still out
    ledger.finish("x", outcomes(first)[9:])
    third = take(ledger, "x")
    assert (third.configuration, [slot.slot for slot in third.slots]) == ("A", [10, 11])


def places(work: Work) -> tuple[str, list[int]]:
    return work.configuration, [slot.slot for slot in work.slots]


def test_a_batch_is_cut_into_the_same_populations_whoever_comes(ledger: Ledger) -> None:
    several = [take(ledger, worker_id, limit=4) for worker_id in "abcdef"]
    assert [places(work) for work in several] == [
        ("A", [0, 1, 2, 3]), ("B", [0, 1, 2, 3]), ("A", [4, 5, 6]), ("B", [4, 5, 6]), ("A", [7, 8, 9]),
        ("B", [7, 8, 9]),
    ]  # fmt: skip
    ledger.release("c"), ledger.release("e")
    lost = [take(ledger, "g", limit=4), take(ledger, "g", limit=4)]
    assert [places(work) for work in lost] == [("A", [4, 5, 6]), ("A", [7, 8, 9])]
    ledger.finish("g", outcomes(lost[0])), ledger.release("g"), ledger.release("a")
    assert [places(take(ledger, "g", limit=4)) for _ in range(2)] == [("A", [0, 1, 2, 3]), ("A", [7, 8, 9])]


def test_tuning_runs_are_trained_side_by_side_a_batch_at_a_time(url: str) -> None:
    ledger = make(connect(url), trials=13, seeds=3, tuning_runs=3)  # batches of 10 and 3
    first, second = [take(ledger, "x", limit=16) for _ in "AB"], [take(ledger, "x", limit=16) for _ in "AB"]
    assert [[(slot.tuning_run, slot.slot) for slot in work.slots] for work in (*first, *second)] == 2 * [
        [(0, slot) for slot in range(10)] + [(1, slot) for slot in range(5)],
    ] + 2 * [[(1, slot) for slot in range(5, 10)] + [(2, slot) for slot in range(10)]]
    assert {slot.seed for slot in first[0].slots} == {0, 1} and {slot.batch for slot in first[0].slots} == {0}
    ledger.finish("x", outcomes(first[0])), ledger.finish("x", outcomes(second[0])[:-1])
    assert ledger.lease("y", 16) is None, "one trial of the batch is still out"
    ledger.finish("x", outcomes(second[0])[-1:])
    third = take(ledger, "y", limit=16)
    assert [(slot.tuning_run, slot.slot, slot.batch) for slot in third.slots] == [
        (tuning_run, slot, 1) for tuning_run in range(3) for slot in range(10, 13)
    ]


def test_trials_that_are_added_are_batches_of_their_own(ledger: Ledger) -> None:
    take(ledger, "x"), take(ledger, "x")
    more = make(ledger.engine, trials=20, seeds=4, tuning_runs=2)
    with ledger.engine.connect() as connection:
        columns = (schema.slots.c.tuning_run, schema.slots.c.batch, sa.func.min(schema.slots.c.slot), sa.func.count())
        query = sa.select(*columns).where(schema.slots.c.configuration == "A", schema.slots.c.phase == "tune")
        found = connection.execute(query.group_by(*columns[:2]).order_by(*columns[:2])).all()
    assert [tuple(row) for row in found] == [
        *((0, 0, 0, 10), (0, 1, 10, 2), (0, 2, 12, 4), (0, 3, 16, 4)),
        *((1, 0, 0, 10), (1, 1, 10, 5), (1, 2, 15, 5)),
    ]
    assert places(take(more, "y")) == ("A", list(range(10)))  # of the new tuning run: the old ones are in hand


def test_an_expired_lease_is_taken_over_with_the_same_settings(ledger: Ledger) -> None:
    lost = take(ledger, "x", seconds=-1.0)
    assert ledger.state() == "work"
    found = take(ledger, "y")
    assert [slot.setting for slot in found.slots] == [slot.setting for slot in lost.slots]
    assert {slot.attempt for slot in found.slots} == {2}
    failures = ledger.export()["failures"]
    assert len(failures) == 10 and {entry["cause"] for entry in failures} == {"lost worker"}
    assert failures[0]["setting"] == lost.slots[0].setting


def test_a_lease_whose_answer_was_lost_is_no_attempt(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    run, lost = transactions.run, [True]

    def cut_off(engine: Engine, work: Any) -> Any:
        found = run(engine, work)
        if lost and lost.pop():
            kind = sqlite3 if engine.dialect.name == "sqlite" else psycopg
            raise sa.exc.OperationalError("COMMIT", {}, kind.OperationalError("database is locked"))
        return found

    monkeypatch.setattr(transactions, "run", cut_off)
    work = take(ledger, "x", limit=3)
    assert not lost and [slot.attempt for slot in work.slots] == [1, 1, 1]
    held = [row["id"] for row in ledger.export()["slots"] if row["state"] == "leased"]
    assert held == [slot.id for slot in work.slots]


def test_the_last_trials_may_be_finished_while_another_worker_looks_for_work(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only on PostgreSQL: on SQLite nobody writes while another looks for work."""
    url = postgresql.create()
    ledger = make(connect(url))
    held: list[Work] = []
    while len(held) < 2:
        work = take(ledger, "x", limit=1)
        if work.slots[0].slot == 11:
            held.append(work)
        else:
            ledger.finish("x", outcomes(work))
    look = queries.groups

    def slow_look(*arguments: Any) -> Any:
        found = look(*arguments)
        while held:
            ledger.finish("x", outcomes(held.pop()))
        return found

    monkeypatch.setattr(queries, "groups", slow_look)
    assert ledger.lease("y", 9) is None
    found = ledger.lease("y", 9)
    assert found is not None and (found.phase, [slot.setting for slot in found.slots]) == (
        "rerun", [{"learning_rate": 0.001}] * 3,
    )  # fmt: skip
    postgresql.drop(url)


def test_a_late_finish_does_not_count(ledger: Ledger) -> None:
    late = take(ledger, "x", seconds=-1.0)
    present = take(ledger, "y")
    assert ledger.finish("x", outcomes(late)) == [] and ledger.extend_lease("x", [slot.id for slot in late.slots]) == []
    ids = ledger.finish("y", outcomes(present)[:4])
    assert ids == [slot.id for slot in present.slots[:4]]
    assert ledger.finish("x", outcomes(late)) == []
    assert Counter((row["state"], row["worker_id"]) for row in rows(ledger)) == {
        ("done", "y"): 4, ("leased", "y"): 6, ("open", None): 2,
    }  # fmt: skip
    assert len(curves.read(ledger.engine, "s")["value"]) == 4 * 4


def test_an_expired_lease_nobody_took_still_finishes(ledger: Ledger) -> None:
    work = take(ledger, "x", seconds=-1.0)
    assert len(ledger.finish("x", outcomes(work))) == 10


def test_finish_can_be_repeated(ledger: Ledger) -> None:
    work = take(ledger, "x")
    assert ledger.finish("x", outcomes(work)) == ledger.finish("x", outcomes(work))
    assert len(curves.read(ledger.engine, "s")["value"]) == 10 * 4


def test_a_renewed_lease_is_kept(ledger: Ledger) -> None:
    work = take(ledger, "x", seconds=-1.0)
    ids = [slot.id for slot in work.slots]
    assert ledger.extend_lease("x", ids, 60.0) == ids
    assert take(ledger, "y").configuration == "B"


def test_a_dead_process_of_this_machine_loses_its_lease_at_once(ledger: Ledger) -> None:
    code = "from hpo.storage.ledger import new_worker_id; print(new_worker_id())"
    root = Path(schema.__file__).parents[2]
    worker_id = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    lost = take(ledger, worker_id.strip())
    assert has_ended(worker_id.strip()) and not has_ended(new_worker_id()) and not has_ended("elsewhere:1:2:3")
    assert [slot.id for slot in take(ledger, "y").slots] == [slot.id for slot in lost.slots]


def test_released_work_is_no_attempt(ledger: Ledger) -> None:
    for _ in range(5):
        work = take(ledger, "x")
        assert {slot.attempt for slot in work.slots} == {1}
        assert ledger.release("x") == [slot.id for slot in work.slots]
    assert ledger.export()["failures"] == []
    assert [slot.setting for slot in take(ledger, "y").slots] == [slot.setting for slot in work.slots]


@pytest.mark.parametrize(("cause", "attempts"), [("exception", 2), ("timeout", 3), ("out of memory", 3)])
def test_a_tuning_slot_out_of_attempts_takes_a_new_setting(ledger: Ledger, cause: str, attempts: int) -> None:
    for attempt in range(1, attempts + 1):
        work = take(ledger, "x", limit=1)
        slot = work.slots[0]
        assert (slot.slot, slot.attempt, slot.replacements) == (0, attempt, 0)
        assert ledger.fail("x", work.slots, cause, "why") == [slot.id]
    assert (rows(ledger)[0]["state"], rows(ledger)[0]["setting"], rows(ledger)[0]["attempt"]) == ("open", None, 0)
    assert [entry["setting"] for entry in ledger.export()["failures"]] == [slot.setting] * attempts
    assert ledger.counts()["A"]["failures"] == {cause: attempts}


def test_a_configuration_out_of_settings_fails_and_the_rest_goes_on(ledger: Ledger) -> None:
    given_up = 0
    while True:
        work = take(ledger, "x", limit=1)
        if work.configuration == "B":
            ledger.finish("x", outcomes(work))
        elif rows(ledger)[0]["state"] != "failed":
            ledger.fail("x", work.slots, "exception", "Traceback")
            given_up += work.slots[0].attempt == 2
        if rows(ledger)[0]["state"] == "failed":
            break
    assert given_up == 6  # more than max(5, 12 / 4)
    finish_all(ledger)
    assert {row["state"] for row in rows(ledger)} == {row["state"] for row in rows(ledger, "A", "rerun")} == {"failed"}
    assert (
        {row["state"] for row in rows(ledger, "B")} == {row["state"] for row in rows(ledger, "B", "rerun")} == {"done"}
    )
    assert ledger.state() == "done"
    assert make(ledger.engine, trials=14).state() == "work"  # B's two; A stays failed
    assert {row["state"] for row in rows(ledger)} == {"failed"} and len(rows(ledger)) == 14


def test_a_rerun_out_of_attempts_stays_failed(ledger: Ledger) -> None:
    finish_all(ledger, until="rerun")
    for _ in range(2):
        work = take(ledger, "x", limit=1)
        ledger.fail("x", work.slots, "exception", "Traceback")
    finish_all(ledger)
    assert [(row["state"], row["cause"]) for row in rows(ledger, "A", "rerun")] == [
        ("failed", "exception"), ("done", None), ("done", None),
    ]  # fmt: skip
    assert ledger.state() == "done" and ledger.counts()["A"]["failed"] == 1


def test_reruns_use_the_best_setting_and_ties_go_by_loss_then_slot(ledger: Ledger) -> None:
    values = {0: (0.7, 0.3), 1: (0.9, 0.5), 2: (0.9, 0.4), 3: (0.9, 0.4), 4: (None, 0.1)}
    while (work := take(ledger, "x")).phase == "tune":
        ledger.finish(
            "x",
            [
                Outcome(slot.id, slot.attempt, values.get(slot.slot, (0.1, 0))[0],
                        result={"validation_loss": values.get(slot.slot, (0, 0.0))[1]})
                for slot in work.slots
            ],
        )  # fmt: skip
    assert storage_study.best(ledger, "A") == {"slot": 2, "setting": {"learning_rate": 0.003}, "value": 0.9}
    assert [slot.setting for slot in work.slots] == [{"learning_rate": 0.003}] * 3
    assert [slot.seed for slot in work.slots] == [1000, 1001, 1002]


def test_a_diverged_run_is_finished_and_counted(ledger: Ledger) -> None:
    work = take(ledger, "x", limit=2)
    bounded, unbounded = work.slots
    nan = float("nan")
    ledger.finish("x", [
        Outcome(bounded.id, 1, 0.1, "diverged", {"diverged_epoch": 2, "train_loss": nan}, {"train_loss": [1.0, nan]}),
        Outcome(unbounded.id, 1, None, "diverged", {"diverged_epoch": 1}),
    ])  # fmt: skip
    found = rows(ledger)[:2]
    assert [(row["state"], row["value"], row["cause"]) for row in found] == [
        ("done", 0.1, "diverged"), ("done", None, "diverged"),
    ]  # fmt: skip
    assert found[0]["result"] == {"diverged_epoch": 2, "train_loss": None}
    assert ledger.counts()["A"]["diverged"] == 2
    assert ledger.finished_trials("A", {0}, 1)[0][0] == [
        FinishedTrial(bounded.setting, 0.1),
        FinishedTrial(unbounded.setting, None),
    ]


def test_curves_and_results_are_stored_together_or_not_at_all(ledger: Ledger) -> None:
    work = take(ledger, "x", limit=1)
    with ledger.engine.begin() as connection:  # the insert will meet a row that is there already
        row = {"slot_id": work.slots[0].id, "metric": "train_loss", "points": struct.pack("<d", 9.0)}
        connection.execute(sa.insert(schema.curves).values(row))
    with pytest.raises(sa.exc.IntegrityError):
        ledger.finish("x", outcomes(work))
    assert rows(ledger)[0]["state"] == "leased"
    assert curves.read(ledger.engine, "s")["value"].tolist() == [9.0]


def test_counts_and_export(ledger: Ledger) -> None:
    ledger.register("host+12ab:7:1:a", "cpu", {"torch": "2.13.0"})
    ledger.finish("x", outcomes(take(ledger, "x", limit=4)))
    take(ledger, "x", limit=3)
    assert ledger.counts()["A"] == {
        "trials_total": 12, "trials_done": 4, "reruns_total": 3, "reruns_done": 0, "leased": 0, "failed": 0,
        "diverged": 0, "pruned": 0, "without a finite score": 0, "failures": {}, "best": 0.999,
    }  # fmt: skip
    assert ledger.counts()["B"]["leased"] == 3
    found = ledger.export()
    assert (found["study"]["trials"], found["study"]["seeds"], found["study"]["digest"]) == (12, 3, "d")
    worker = found["workers"][0]
    assert (worker["host"], worker["pid"], worker["device"]) == ("host", 7, "cpu")
    assert worker["environment"] == {"torch": "2.13.0"}
    assert set(found["slots"][0]) == {
        "id", "configuration", "tuning_run", "phase", "round", "slot", "seed", "state", "attempt", "worker_id",
        "lease_until",
        "setting", "value", "cause", "result", "seconds", "trial", "started", "finished",
    }  # fmt: skip
