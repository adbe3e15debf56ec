"""Calls that overlap at a chosen statement, as they seldom do by chance.

Only on PostgreSQL: on SQLite a transaction begins when the one before is over.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count

import pytest
import sqlalchemy as sa
from postgres_server import PostgresServer
from storage_study import finish_all, make, outcomes
from turns import Turns

from hpo.errors import UsageError
from hpo.storage import curves, schema
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Work, load_study, names
from hpo.storage.schema import failures, slots
from hpo.storage.whole_study import read_whole
from tests.storage.test_ledger import take

OF_ONE_WORKER = ("finish", "fail", "extend", "release", "assign", "note trials")
OF_SEVERAL = ("finish", "fail", "extend", "lease", "raise", "delete")


@pytest.fixture
def turns(postgresql: PostgresServer) -> Iterator[Turns]:
    url = postgresql.create()
    turns = Turns(connect(url))
    yield turns
    turns.close()
    postgresql.drop(url)


def row_counts(turns: Turns) -> list[int | None]:
    """Of studies, slots, failures and curves."""
    tables = (schema.studies, schema.slots, schema.failures, schema.curves)
    with turns.engine.begin() as connection:
        return [connection.scalar(sa.select(sa.func.count()).select_from(table)) for table in tables]


def last_attempts(ledger: Ledger, replacements: int) -> tuple[Work, Work]:
    """Two workers, each with a slot of A in its last attempt, after so many settings of A were replaced."""
    first, second = take(ledger, "x", limit=1), take(ledger, "y", limit=1)
    if second.configuration != "A":
        second = take(ledger, "y", limit=1)
    assert (first.configuration, second.configuration) == ("A", "A")
    ids = [first.slots[0].id, second.slots[0].id]
    other = sa.select(sa.func.max(slots.c.id)).where(slots.c.configuration == "A", slots.c.phase == "tune")
    with ledger.engine.begin() as connection:
        connection.execute(sa.update(slots).where(slots.c.id.in_(ids)).values(attempt=3))
        settings = dict(connection.execute(sa.select(slots.c.id, slots.c.setting).where(slots.c.id.in_(ids))).all())
        earlier = {"study_id": ledger.id, "message": "m", "time": 0.0}
        connection.execute(
            sa.insert(failures),
            [
                {**earlier, "slot_id": slot, "attempt": attempt, "cause": cause, "setting": settings[slot]}
                for slot in ids
                for attempt, cause in ((1, "timeout"), (2, "out of memory"))
            ],
        )
        replaced = sa.update(slots).where(slots.c.id == other.scalar_subquery())
        connection.execute(replaced.values(replacements=replacements))
    last = [work.with_slots([slot._replace(attempt=3) for slot in work.slots]) for work in (first, second)]
    return last[0], last[1]


def test_a_study_deleted_while_a_worker_reports_a_failure_leaves_nothing(turns: Turns) -> None:
    ledger = make(turns.engine)
    work = take(ledger, "x", limit=3)
    with turns.stopped(lambda: ledger.fail("x", work.slots, "exception", "m")) as failing:
        deleting = turns.start(ledger.delete)
        assert turns.wait(deleting) == [False]
    assert failing.result() == [slot.id for slot in work.slots]
    deleting.result()
    assert (row_counts(turns), turns.errors) == ([0, 0, 0, 0], [])


def test_a_worker_that_starts_while_its_study_is_deleted_is_told_so(turns: Turns) -> None:
    ledger = make(turns.engine)
    with turns.stopped(ledger.delete) as deleting:
        registering = turns.start(lambda: ledger.register("host:1:2"))
        assert turns.wait(registering) == [False]
    deleting.result()
    with pytest.raises(UsageError, match="was deleted"):
        registering.result()
    assert (row_counts(turns), turns.errors) == ([0, 0, 0, 0], [])


def test_a_failure_reported_while_its_study_is_replaced_counts_nowhere(turns: Turns) -> None:
    ledger = make(turns.engine)
    work = take(ledger, "x", limit=3)
    with turns.stopped(ledger.delete) as deleting:
        failing = turns.start(lambda: ledger.fail("x", work.slots, "exception", "m"))
        creating = turns.start(lambda: make(turns.engine))
        assert turns.wait(failing, creating) == [False, False]
    deleting.result()
    assert failing.result() == [] and turns.errors == []
    replacement = creating.result()
    assert names(turns.engine) == ["s"] and replacement.id != ledger.id
    assert row_counts(turns) == [1, 2 * (12 + 3), 0, 0]
    assert {(row["state"], row["attempt"]) for row in replacement.export()["slots"]} == {("open", 0)}


def test_two_failures_at_once_that_are_too_many_together_fail_the_configuration(turns: Turns) -> None:
    """Five settings may be replaced; each of the two workers would count five if it did not see the other's."""
    ledger = make(turns.engine)
    first, second = last_attempts(ledger, replacements=4)
    with turns.stopped(lambda: ledger.fail("x", first.slots, "exception", "m")) as one:
        other = turns.start(lambda: ledger.fail("y", second.slots, "exception", "m"))
        assert turns.wait(other) == [False]
    assert len(one.result()) == len(other.result()) == 1
    assert ledger.counts()["A"]["failed"] == 15 and turns.errors == []


def test_a_configuration_that_two_workers_fail_at_once_fails_once(turns: Turns) -> None:
    ledger = make(turns.engine)
    first, second = last_attempts(ledger, replacements=5)
    with turns.stopped(lambda: ledger.fail("x", first.slots, "timeout", "m")) as one:
        other = turns.start(lambda: ledger.fail("y", second.slots, "out of memory", "m"))
        turns.wait(other)
    assert len(one.result()) == len(other.result()) == 1 and turns.errors == []
    causes = Counter((row["state"], row["cause"]) for row in ledger.export()["slots"] if row["configuration"] == "A")
    # The other worker's slot failed with its own attempt, and everything else with the first one.
    assert causes == {("failed", "timeout"): 14, ("failed", "out of memory"): 1}


def prepare(turns: Turns, name: str) -> tuple[Ledger, dict[str, Callable[[], object]]]:
    """A new study and calls on it, by worker x, who holds three slots, by worker y, who takes them over, and by users.

    Lists are in reverse order.
    """
    ledger = make(turns.engine, name, trials=4, seeds=2)
    work = take(ledger, "x", limit=3, seconds=-1.0)
    work = work.with_slots(work.slots[::-1])
    ids = [slot.id for slot in work.slots]
    return ledger, {
        "finish": lambda: ledger.finish("x", outcomes(work)),
        "fail": lambda: ledger.fail("x", work.slots, "lost worker", "m"),
        "extend": lambda: ledger.extend_lease("x", ids, seconds=-1.0),
        "release": lambda: ledger.release("x", ids),
        "assign": lambda: ledger.assign("x", work, []),
        "note trials": lambda: ledger.note_trials("x", dict(zip(ids, count(1), strict=False))),
        "lease": lambda: ledger.lease("y", 99),
        "raise": lambda: make(ledger.engine, ledger.study, trials=5, seeds=3),
        "delete": ledger.delete,
    }


def test_a_study_is_copied_as_it_is_at_one_moment_and_without_a_lock(turns: Turns) -> None:
    ledger = make(turns.engine)
    finish_all(ledger)
    other, deleted = connect(turns.engine.url.render_as_string(hide_password=False)), list[bool]()

    def delete_between(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM hpo_failures" in statement and not deleted:
            deleted.append(True)
            load_study(other, "s").delete()

    sa.event.listen(turns.engine, "before_cursor_execute", delete_between)
    whole = read_whole(turns.engine, "s")
    sa.event.remove(turns.engine, "before_cursor_execute", delete_between)
    other.dispose()
    assert deleted and names(turns.engine) == []
    assert len(whole.slots) == 2 * (12 + 3) and len(whole.curves) == 2 * len(whole.slots)
    assert turns.errors == []


def slots_with_curves_are_done(turns: Turns, name: str) -> bool:
    rows = load_study(turns.engine, name).export()["slots"] if name in names(turns.engine) else []
    done = {row["id"] for row in rows if row["state"] == "done"}
    return set(curves.read(turns.engine, name)["slot_id"].tolist()) == done


@pytest.mark.parametrize("first", OF_SEVERAL)
def test_calls_that_overlap_at_any_lock_end_without_a_deadlock(turns: Turns, first: str) -> None:
    for second in OF_SEVERAL:
        for after in count(1):
            name = f"{second} {after}"
            _, calls = prepare(turns, name)
            with turns.stopped(calls[first], after) as one:
                over = one.done()
                other = turns.start(calls[second])
                turns.wait(other)
            one.result(), other.result()
            assert turns.errors == [], f"{second} at lock {after} of {first}"
            assert slots_with_curves_are_done(turns, name)
            if over:
                break


@pytest.mark.parametrize("first", OF_ONE_WORKER)
def test_rows_are_locked_in_one_order(turns: Turns, first: str) -> None:
    """The middle one of three slots is locked: calls that lock in different orders would wait for each other."""
    for second in OF_ONE_WORKER:
        ledger, calls = prepare(turns, second)
        held = sorted(row["id"] for row in ledger.export()["slots"] if row["state"] == "leased")
        with turns.engine.begin() as connection:
            connection.execute(sa.select(slots.c.id).where(slots.c.id == held[1]).with_for_update())
            started = []
            for call in (first, second):
                started.append(turns.start(calls[call]))
                assert turns.wait(*started) == [False] * len(started)
        for running in started:
            running.result()
        assert turns.errors == [], f"{second} after {first}"
