"""Leases, takeover, results, and the settings of reruns."""

import math
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
from postgres_server import PostgresServer
from sqlalchemy.engine import Engine
from storage_study import best, make, outcomes

from hpo.storage import curves, schema, transactions
from hpo.storage.database import connect
from hpo.storage.ledger import FinishedTrial, Ledger, Outcome, Work, new_worker_id, rerun_settings, unfinished
from hpo.storage.ledger.worker_ids import has_ended


@pytest.fixture
def ledger(url: str) -> Ledger:
    return make(connect(url))


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Ledger:
    return make(connect(f"sqlite:///{tmp_path}/t.db"))


def take(ledger: Ledger, worker_id: str, limit: int = 99, seconds: float = 60.0) -> Work:
    """Leases work and assigns a different setting to every new slot."""
    work = ledger.lease(worker_id, limit, seconds)
    assert work is not None
    settings = [{"learning_rate": 0.001 * (slot.slot + 1)} for slot in work.slots if slot.setting is None]
    return ledger.assign(worker_id, work, settings)


def rows(ledger: Ledger, configuration: str = "A", phase: str = "tune") -> list[dict[str, Any]]:
    wanted = (configuration, phase)
    result = [row for row in ledger.export()["slots"] if (row["configuration"], row["phase"]) == wanted]
    return sorted(result, key=lambda row: (row["round"], row["slot"]))


def leased(work: Work) -> tuple[str, list[int]]:
    return work.configuration, [slot.slot for slot in work.slots]


def test_a_batch_begins_when_those_before_it_are_finished(ledger: Ledger) -> None:
    first, second = take(ledger, "x"), take(ledger, "y")
    assert leased(first) == ("A", list(range(10))) and leased(second) == ("B", list(range(10)))
    assert ledger.lease("z", 99) is None and ledger.state() == "wait"
    ledger.finish("x", outcomes(first)[:9])
    assert ledger.lease("z", 99) is None  # one start-up trial is unfinished
    ledger.finish("x", outcomes(first)[9:])
    assert leased(take(ledger, "x")) == ("A", [10, 11])


def test_populations_do_not_depend_on_the_workers(sqlite_ledger: Ledger) -> None:
    ledger = sqlite_ledger
    populations = [take(ledger, worker_id, limit=4) for worker_id in "abcdef"]
    thirds = ([0, 1, 2, 3], [4, 5, 6], [7, 8, 9])
    assert [leased(work) for work in populations] == [(name, slots) for slots in thirds for name in "AB"]
    ledger.release("c"), ledger.release("e")
    lost = [take(ledger, "g", limit=4), take(ledger, "g", limit=4)]
    assert [leased(work) for work in lost] == [("A", thirds[1]), ("A", thirds[2])]
    ledger.finish("g", outcomes(lost[0])), ledger.release("g"), ledger.release("a")
    assert [leased(take(ledger, "g", limit=4)) for _ in range(2)] == [("A", thirds[0]), ("A", thirds[2])]


def test_tuning_runs_are_trained_together_one_batch_at_a_time(url: str) -> None:
    ledger = make(connect(url), trials=13, seeds=3, tuning_runs=3)  # batches of 10 and 3
    first, second = [take(ledger, "x", limit=16) for _ in "AB"], [take(ledger, "x", limit=16) for _ in "AB"]
    sequence = [(tuning_run, slot) for tuning_run in range(3) for slot in range(10)]
    slots = [[(slot.tuning_run, slot.slot) for slot in work.slots] for work in (*first, *second)]
    assert slots == [sequence[:15]] * 2 + [sequence[15:]] * 2
    assert {slot.seed for slot in first[0].slots} == {0, 1} and {slot.batch for slot in first[0].slots} == {0}
    ledger.finish("x", outcomes(first[0])), ledger.finish("x", outcomes(second[0])[:-1])
    assert ledger.lease("y", 16) is None, "one trial of the batch is unfinished"
    ledger.finish("x", outcomes(second[0])[-1:])
    third = [(slot.tuning_run, slot.slot, slot.batch) for slot in take(ledger, "y", limit=16).slots]
    assert third == [(tuning_run, slot, 1) for tuning_run in range(3) for slot in range(10, 13)]


def test_added_trials_are_separate_batches(sqlite_ledger: Ledger) -> None:
    take(sqlite_ledger, "x"), take(sqlite_ledger, "x")
    more = make(sqlite_ledger.engine, trials=20, seeds=4, tuning_runs=2)
    with more.engine.connect() as connection:
        key = (schema.slots.c.tuning_run, schema.slots.c.batch)
        query = sa.select(*key, sa.func.min(schema.slots.c.slot), sa.func.count()).group_by(*key).order_by(*key)
        result = connection.execute(query.where(schema.slots.c.configuration == "A", schema.slots.c.phase == "tune"))
        batches = [tuple(row) for row in result]
    first_run = [(0, 0, 0, 10), (0, 1, 10, 2), (0, 2, 12, 4), (0, 3, 16, 4)]
    assert batches == [*first_run, (1, 0, 0, 10), (1, 1, 10, 5), (1, 2, 15, 5)]
    assert leased(take(more, "y")) == ("A", list(range(10)))  # of the new tuning run: the old ones are leased


def test_an_expired_lease_is_taken_over_with_its_settings(ledger: Ledger) -> None:
    lost = take(ledger, "x", seconds=-1.0)
    assert ledger.state() == "work"
    result = take(ledger, "y")
    assert [slot.setting for slot in result.slots] == [slot.setting for slot in lost.slots]
    assert {slot.attempt for slot in result.slots} == {2}
    failures = ledger.export()["failures"]
    assert len(failures) == 10 and {entry["cause"] for entry in failures} == {"lost worker"}
    assert failures[0]["setting"] == lost.slots[0].setting


def test_a_lease_whose_answer_was_lost_is_no_attempt(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    run, lost = transactions.run, [True]

    def cut_off(engine: Engine, work: Any) -> Any:
        result = run(engine, work)
        if lost and lost.pop():
            driver = sqlite3 if engine.dialect.name == "sqlite" else psycopg
            raise sa.exc.OperationalError("COMMIT", {}, driver.OperationalError("database is locked"))
        return result

    monkeypatch.setattr(transactions, "run", cut_off)
    work = take(ledger, "x", limit=3)
    assert not lost and [slot.attempt for slot in work.slots] == [1, 1, 1]
    held = [row["id"] for row in ledger.export()["slots"] if row["state"] == "leased"]
    assert held == [slot.id for slot in work.slots]


def test_the_last_trials_may_finish_while_another_worker_looks_for_work(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only on PostgreSQL: on SQLite no one writes while another looks for work."""
    url = postgresql.create()
    ledger = make(connect(url))
    held: list[Work] = []
    while len(held) < 2:
        work = take(ledger, "x", limit=1)
        if work.slots[0].slot == 11:
            held.append(work)
        else:
            ledger.finish("x", outcomes(work))
    groups = unfinished.unfinished_groups

    def slow_groups(*arguments: Any) -> Any:
        result = groups(*arguments)
        while held:
            ledger.finish("x", outcomes(held.pop()))
        return result

    monkeypatch.setattr(unfinished, "unfinished_groups", slow_groups)
    assert ledger.lease("y", 9) is None
    reruns = ledger.lease("y", 9)
    assert reruns is not None and reruns.phase == "rerun"
    assert [slot.setting for slot in reruns.slots] == [{"learning_rate": 0.001}] * 3
    postgresql.drop(url)


def test_a_configuration_may_be_tuned_while_the_reruns_of_another_get_their_settings(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No rerun is leased without the setting of its tuning, whatever finishes between two statements."""
    url = postgresql.create()
    ledger = make(connect(url))
    held: dict[str, Work] = {}
    while len(held) < 2:
        work = take(ledger, "x", limit=1)
        if work.slots[0].slot == 11:
            held[work.configuration] = work
        else:
            ledger.finish("x", outcomes(work))
    ledger.finish("x", outcomes(held.pop("B")))

    def slow_assignment(*arguments: Any) -> None:
        rerun_settings.assign_best_settings(*arguments)
        if held:
            ledger.finish("x", outcomes(held.pop("A")))

    monkeypatch.setattr("hpo.storage.ledger.ledger.assign_best_settings", slow_assignment)
    both = [ledger.lease("y", 9), ledger.lease("y", 9)]
    assert not held and {(work.configuration, work.phase) for work in both if work} == {("A", "rerun"), ("B", "rerun")}
    assert [slot.setting for work in both if work for slot in work.slots] == [{"learning_rate": 0.001}] * 6
    postgresql.drop(url)


def test_a_late_finish_does_not_count(ledger: Ledger) -> None:
    late = take(ledger, "x", seconds=-1.0)
    present = take(ledger, "y")
    assert ledger.finish("x", outcomes(late)) == [] and ledger.extend_lease("x", [slot.id for slot in late.slots]) == []
    assert ledger.finish("y", outcomes(present)[:4]) == [slot.id for slot in present.slots[:4]]
    assert ledger.finish("x", outcomes(late)) == []
    states = Counter((row["state"], row["worker_id"]) for row in rows(ledger))
    assert states == {("done", "y"): 4, ("leased", "y"): 6, ("open", None): 2}
    assert len(curves.read(ledger.engine, "s")["value"]) == 4 * 4


def test_results_of_an_earlier_attempt_of_the_same_worker_do_not_count(ledger: Ledger) -> None:
    earlier = take(ledger, "x", limit=3)
    ledger.fail("x", earlier.slots, "timeout", "")
    present = take(ledger, "x", limit=3)
    assert [slot.attempt for slot in present.slots] == [2, 2, 2]
    assert ledger.finish("x", outcomes(earlier)) == [] and ledger.counts()["A"]["leased"] == 3
    assert len(ledger.finish("x", outcomes(present))) == 3


def test_finish_counts_after_an_expired_lease_and_once(ledger: Ledger) -> None:
    work = take(ledger, "x", seconds=-1.0)
    ids = [slot.id for slot in work.slots]
    assert ledger.finish("x", outcomes(work)) == ledger.finish("x", outcomes(work)) == ids
    assert len(curves.read(ledger.engine, "s")["value"]) == 10 * 4


def test_an_extended_lease_is_kept(ledger: Ledger) -> None:
    work = take(ledger, "x", seconds=-1.0)
    ids = [slot.id for slot in work.slots]
    assert ledger.extend_lease("x", ids, 60.0) == ids
    assert take(ledger, "y").configuration == "B"


def test_a_process_of_this_machine_that_ended_loses_its_lease_at_once(sqlite_ledger: Ledger) -> None:
    code = "from hpo.storage.ledger.worker_ids import new_worker_id; print(new_worker_id())"
    root = Path(schema.__file__).parents[2]
    child = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    worker_id = child.stdout.strip()
    lost = take(sqlite_ledger, worker_id)
    assert has_ended(worker_id) and not has_ended(new_worker_id()) and not has_ended("elsewhere:1:2:3")
    assert [slot.id for slot in take(sqlite_ledger, "y").slots] == [slot.id for slot in lost.slots]


def test_released_work_is_no_attempt(ledger: Ledger) -> None:
    for _ in range(5):
        work = take(ledger, "x")
        assert {slot.attempt for slot in work.slots} == {1}
        assert ledger.release("x") == [slot.id for slot in work.slots]
    assert ledger.export()["failures"] == []
    assert [slot.setting for slot in take(ledger, "y").slots] == [slot.setting for slot in work.slots]


def test_reruns_use_the_best_setting_and_ties_go_by_loss_then_slot(sqlite_ledger: Ledger) -> None:
    ledger = sqlite_ledger
    ends = {0: (0.7, 0.3), 1: (0.9, 0.5), 2: (0.9, 0.4), 3: (0.9, 0.4), 4: (None, 0.1)}
    while (work := take(ledger, "x")).phase == "tune":
        for slot in work.slots:
            value, loss = ends.get(slot.slot, (0.1, 0.0))
            ledger.finish("x", [Outcome(slot.id, slot.attempt, value, result={"validation_loss": loss})])
    assert best(ledger, "A") == {"slot": 2, "setting": {"learning_rate": 0.003}, "value": 0.9}
    assert [slot.setting for slot in work.slots] == [{"learning_rate": 0.003}] * 3
    assert [slot.seed for slot in work.slots] == [1000, 1001, 1002]


def test_reruns_of_a_tuned_configuration_do_not_wait_for_the_others(ledger: Ledger) -> None:
    first, held = take(ledger, "x"), take(ledger, "y")
    ledger.finish("x", outcomes(first))
    ledger.finish("x", outcomes(take(ledger, "x")))
    assert (first.configuration, held.configuration) == ("A", "B")
    early = take(ledger, "x")
    assert (early.configuration, early.phase) == ("A", "rerun")
    assert [slot.setting for slot in early.slots] == [{"learning_rate": 0.001}] * 3
    assert [row["setting"] for row in rows(ledger, "B", "rerun")] == [None] * 3
    assert ledger.lease("z", 99) is None
    ledger.finish("x", outcomes(early))
    ledger.finish("y", outcomes(held))
    ledger.finish("y", outcomes(take(ledger, "y")))
    late = take(ledger, "y")
    assert (late.configuration, late.phase) == ("B", "rerun")
    assert [slot.setting for slot in late.slots] == [{"learning_rate": 0.001}] * 3


def test_trials_added_before_the_others_are_tuned_change_the_setting_of_the_reruns(ledger: Ledger) -> None:
    first, held = take(ledger, "x"), take(ledger, "y")
    ledger.finish("x", outcomes(first))
    ledger.finish("x", outcomes(take(ledger, "x")))
    ledger.finish("x", outcomes(take(ledger, "x", limit=2))[:1])  # one rerun is done, one is released, one open
    ledger.release("x")
    more = make(ledger.engine, trials=13)
    added = more.lease("x", 99)
    assert added is not None and leased(added) == ("A", [12])
    ledger.finish("x", outcomes(more.assign("x", added, [{"learning_rate": 0.0001}])))
    again = take(more, "x")
    assert (again.configuration, again.phase, len(again.slots)) == ("A", "rerun", 3)
    assert {slot.setting["learning_rate"] for slot in again.slots if slot.setting} == {0.0001}
    assert {row["round"] for row in rows(more, "A", "rerun")} == {0, 1} and held.configuration == "B"


def test_a_diverged_run_is_finished_and_counted(ledger: Ledger) -> None:
    bounded, unbounded = take(ledger, "x", limit=2).slots
    losses = {"train_loss": [1.0, math.nan]}
    ledger.finish("x", [
        Outcome(bounded.id, 1, 0.1, "diverged", {"diverged_epoch": 2, "train_loss": math.nan}, losses),
        Outcome(unbounded.id, 1, None, "diverged", {"diverged_epoch": 1}),
    ])  # fmt: skip
    result = [(row["state"], row["value"], row["cause"]) for row in rows(ledger)[:2]]
    assert result == [("done", 0.1, "diverged"), ("done", None, "diverged")]
    assert rows(ledger)[0]["result"] == {"diverged_epoch": 2, "train_loss": None}
    assert ledger.counts()["A"]["diverged"] == 2
    trials, _ = ledger.finished_trials("A", {0}, 1)[0]
    assert trials == [FinishedTrial(bounded.setting, 0.1), FinishedTrial(unbounded.setting, None, slot=1)]


def test_curves_and_results_are_stored_together_or_not_at_all(ledger: Ledger) -> None:
    work = take(ledger, "x", limit=1)
    with ledger.engine.begin() as connection:  # the insert will conflict with this row
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
        "seconds": pytest.approx(0.04),
    }  # fmt: skip
    assert ledger.counts()["B"]["leased"] == 3
    export = ledger.export()
    assert (export["study"]["trials"], export["study"]["seeds"], export["study"]["digest"]) == (12, 3, "d")
    [worker] = export["workers"]
    assert (worker["host"], worker["pid"], worker["device"]) == ("host", 7, "cpu")
    assert worker["environment"] == {"torch": "2.13.0"}
    assert set(export["slots"][0]) == {
        "id", "configuration", "tuning_run", "phase", "round", "slot", "seed", "state", "attempt", "worker_id",
        "lease_until", "setting", "value", "cause", "result", "seconds", "trial", "started", "finished",
    }  # fmt: skip
