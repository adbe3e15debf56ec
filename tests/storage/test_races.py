"""What two calls do to one another that overlap in a way that luck alone would seldom bring about.

Only on PostgreSQL: on SQLite a transaction begins when the one before is over.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count

import pytest
import sqlalchemy as sa
from postgres_server import PostgresServer
from storage_study import make, outcomes
from turns import Turns

from hpo.storage import curves
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Work, load_study, names
from hpo.storage.schema import slots
from tests.storage.test_ledger import take

Calls = dict[str, Callable[[], object]]


@pytest.fixture
def turns(postgresql: PostgresServer) -> Iterator[Turns]:
    url = postgresql.create()
    made = Turns(connect(url))
    yield made
    made.close()
    postgresql.drop(url)


def rows_left(turns: Turns) -> dict[str, int]:
    with turns.engine.begin() as connection:
        tables = ("hpo_studies", "hpo_slots", "hpo_failures", "hpo_curves")
        return {table: connection.exec_driver_sql(f"select count(*) from {table}").scalar_one() for table in tables}


def spoil(ledger: Ledger, replacements: int) -> tuple[Work, Work]:
    """Two workers, each with a slot of A at its last attempt, after so many settings of A were given up."""
    first, second = take(ledger, "x", limit=1), take(ledger, "y", limit=1)
    if second.configuration != "A":
        second = take(ledger, "y", limit=1)
    assert (first.configuration, second.configuration) == ("A", "A")
    with ledger.engine.begin() as connection:
        last = sa.update(slots).where(slots.c.id.in_([first.slots[0].id, second.slots[0].id])).values(attempt=3)
        other = sa.select(sa.func.max(slots.c.id)).where(slots.c.configuration == "A", slots.c.phase == "tune")
        connection.execute(last)
        connection.execute(
            sa.update(slots).where(slots.c.id == other.scalar_subquery()).values(replacements=replacements)
        )
    return tuple(work.with_slots([slot._replace(attempt=3) for slot in work.slots]) for work in (first, second))  # type: ignore[return-value]


def test_a_study_deleted_while_a_worker_reports_a_failure_is_gone(turns: Turns) -> None:
    """Failures name their study, so that none may come between."""
    ledger = make(turns.engine)
    work = take(ledger, "x", limit=3)
    with turns.stopped(lambda: ledger.fail("x", work.slots, "exception", "m")) as failing:
        deleting = turns.start(ledger.delete)
        assert turns.wait(deleting) == [False]
    assert failing.result() == [slot.id for slot in work.slots]
    deleting.result()
    assert (set(rows_left(turns).values()), turns.errors) == ({0}, [])


def test_a_failure_reported_while_its_study_is_deleted_and_made_anew_counts_nowhere(turns: Turns) -> None:
    ledger = make(turns.engine)
    work = take(ledger, "x", limit=3)
    with turns.stopped(ledger.delete) as deleting:
        failing = turns.start(lambda: ledger.fail("x", work.slots, "exception", "m"))
        making = turns.start(lambda: make(turns.engine))
        assert turns.wait(failing, making) == [False, False]
    deleting.result()
    assert failing.result() == [] and turns.errors == []
    fresh = making.result()
    assert names(turns.engine) == ["s"] and fresh.id != ledger.id
    assert rows_left(turns) == {"hpo_studies": 1, "hpo_slots": 2 * (12 + 3), "hpo_failures": 0, "hpo_curves": 0}
    assert {(row["state"], row["attempt"]) for row in fresh.export()["slots"]} == {("open", 0)}


def test_two_failures_at_once_that_are_too_many_together_give_a_configuration_up(turns: Turns) -> None:
    """Five settings may be given up; each of the two would see five if it did not know of the other."""
    ledger = make(turns.engine)
    first, second = spoil(ledger, replacements=4)
    with turns.stopped(lambda: ledger.fail("x", first.slots, "exception", "m")) as one:
        other = turns.start(lambda: ledger.fail("y", second.slots, "exception", "m"))
        assert turns.wait(other) == [False]
    assert len(one.result()) == len(other.result()) == 1
    assert ledger.counts()["A"]["failed"] == 15 and turns.errors == []


def test_a_configuration_given_up_twice_at_once_is_given_up_once(turns: Turns) -> None:
    ledger = make(turns.engine)
    first, second = spoil(ledger, replacements=5)
    with turns.stopped(lambda: ledger.fail("x", first.slots, "timeout", "m")) as one:
        other = turns.start(lambda: ledger.fail("y", second.slots, "out of memory", "m"))
        turns.wait(other)
    assert len(one.result()) == len(other.result()) == 1 and turns.errors == []
    mine = [row for row in ledger.export()["slots"] if row["configuration"] == "A"]
    # The slot in the other's hands was over when its own attempt ended; everything else with the first.
    causes = Counter((row["state"], row["cause"]) for row in mine)
    assert causes == {("failed", "timeout"): 14, ("failed", "out of memory"): 1}


def calls_of(ledger: Ledger, work: Work) -> Calls:
    """What x, who holds `work`, another worker and two people may do; lists go the wrong way round."""
    backwards = work.with_slots(work.slots[::-1])
    ids = [slot.id for slot in backwards.slots]
    more = {"trials": 5, "seeds": 3}
    return {
        "finish": lambda: ledger.finish("x", outcomes(backwards)),
        "fail": lambda: ledger.fail("x", backwards.slots, "lost worker", "m"),
        "renew": lambda: ledger.extend_lease("x", ids, seconds=-1.0),
        "release": lambda: ledger.release("x", ids),
        "assign": lambda: ledger.assign("x", backwards, []),
        "note trials": lambda: ledger.note_trials("x", dict(zip(ids, count(1), strict=False))),
        "lease": lambda: ledger.lease("y", 99),
        "raise": lambda: make(ledger.engine, ledger.study, **more),
        "delete": ledger.delete,
    }


def ready(turns: Turns, name: str) -> tuple[Ledger, Calls]:
    """A study of its own, and the calls, of which a lease takes over what x holds."""
    ledger = make(turns.engine, name, trials=4, seeds=2)
    return ledger, calls_of(ledger, take(ledger, "x", limit=3, seconds=-1.0))


def whole(turns: Turns, name: str) -> bool:
    """Whether a study that is left has the curves of its finished slots and no others."""
    left = load_study(turns.engine, name).export()["slots"] if name in names(turns.engine) else []
    done = {row["id"] for row in left if row["state"] == "done"}
    return set(curves.read(turns.engine, name)["slot_id"].tolist()) == done


OF_ONE_WORKER = ("finish", "fail", "renew", "release", "assign", "note trials")
OF_SEVERAL = ("finish", "fail", "renew", "lease", "raise", "delete")


@pytest.mark.parametrize("first", OF_SEVERAL)
def test_calls_that_overlap_from_any_lock_on_end_without_a_deadlock(turns: Turns, first: str) -> None:
    for second in OF_SEVERAL:
        for after in count(1):
            name = f"{second} {after}"
            _, calls = ready(turns, name)
            with turns.stopped(calls[first], after) as one:
                over = one.done()
                other = turns.start(calls[second])
                turns.wait(other)
            one.result(), other.result()
            assert turns.errors == [], f"{second} from lock {after} of {first} on"
            assert whole(turns, name)
            if over:
                break


@pytest.mark.parametrize("first", OF_ONE_WORKER)
def test_rows_are_locked_in_one_order(turns: Turns, first: str) -> None:
    """Somebody holds the middle one of three slots: who has the last by then waits for whoever has the first."""
    for second in OF_ONE_WORKER:
        ledger, calls = ready(turns, second)
        held = [row["id"] for row in ledger.export()["slots"] if row["state"] == "leased"]
        with turns.engine.begin() as connection:
            connection.execute(sa.select(slots.c.id).where(slots.c.id == sorted(held)[1]).with_for_update())
            started = []
            for call in (first, second):
                started.append(turns.start(calls[call]))
                assert turns.wait(*started) == [False] * len(started)
        for running in started:
            running.result()
        assert turns.errors == [], f"{second} after {first}"
