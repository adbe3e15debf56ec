"""Who may take over a lease that ran out: those who have had contact with the database for a full lease."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import exc
from sqlalchemy.engine import Engine
from storage_study import make

from hpo.storage.database import connect
from hpo.storage.ledger import Outcome, connection_health, load_study
from hpo.storage.ledger.connection_health import ConnectionHealth


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(connection_health, "elapsed", clock.monotonic)
    return clock


def talk(health: ConnectionHealth, clock: Clock, seconds: float, every: float = 5.0) -> None:
    end = clock.now + seconds
    while clock.now < end:
        clock.now += every
        health.success()


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has this clock")
def test_a_machine_that_slept_had_no_contact_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 7.0}.get)
    assert connection_health.elapsed() == 7.0


def test_contact_lasts_from_the_first_answer_on(clock: Clock) -> None:
    health = ConnectionHealth()
    assert not health.stable_for(0.0)
    health.success()
    assert health.stable_for(0.0) and not health.stable_for(60.0)
    talk(health, clock, 55)
    assert not health.stable_for(60.0)
    talk(health, clock, 5)
    assert health.stable_for(60.0)


def test_a_failure_begins_it_anew(clock: Clock) -> None:
    health = ConnectionHealth()
    health.success()
    talk(health, clock, 100)
    health.failure()
    assert not health.stable_for(60.0)
    health.success()
    talk(health, clock, 55)
    assert not health.stable_for(60.0)
    talk(health, clock, 5)
    assert health.stable_for(60.0)


def test_a_process_that_slept_begins_anew(clock: Clock) -> None:
    health = ConnectionHealth()
    health.success()
    talk(health, clock, 100)
    assert health.stable_for(60.0)
    clock.now += 31
    assert not health.stable_for(60.0)  # before it has had an answer
    health.success()
    assert not health.stable_for(60.0)
    talk(health, clock, 60)
    assert health.stable_for(60.0)


def test_leases_that_ran_out_are_left_to_their_owners_until_contact_has_lasted(url: str) -> None:
    first = make(connect(url))
    held = first.lease("elsewhere:1:0:x", 10, 0.3)
    assert held is not None
    newcomer = load_study(first.engine, "s")
    other = newcomer.lease("elsewhere:2:0:y", 10, 0.3)
    assert other is not None and other.configuration != held.configuration
    time.sleep(0.35)
    ids = [slot.id for slot in held.slots]
    assert first.extend_lease("elsewhere:1:0:x", ids, 0.3) == ids  # late, and still the owner's
    assert newcomer.extend_lease("elsewhere:2:0:y", [slot.id for slot in other.slots], 60) != []
    end = time.monotonic() + 5
    taken = None
    while taken is None and time.monotonic() < end:
        taken = newcomer.lease("elsewhere:2:0:y", 10, 0.3)
        time.sleep(0.02)
    assert taken is not None and {slot.id for slot in taken.slots} == set(ids)
    assert {slot.attempt for slot in taken.slots} == {2}
    late = [Outcome(slot.id, slot.attempt, 0.5) for slot in held.slots]
    assert first.finish("elsewhere:1:0:x", late) == []


def test_after_an_outage_nobody_takes_over_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = load_study(make(connect(url)).engine, "s")
    held = ledger.lease("elsewhere:1:0:x", 10, 0.5)
    assert held is not None
    end = time.monotonic() + 20
    while not (ledger.state() == "work" and ledger.health.stable_for(0.5)) and time.monotonic() < end:
        time.sleep(0.05)
    assert time.monotonic() < end

    fail_once(monkeypatch)
    found = ledger.lease("elsewhere:2:0:y", 10, 0.5)  # the first try fails, the second is answered
    assert found is not None and found.configuration != held.configuration
    assert ledger.extend_lease("elsewhere:1:0:x", [slot.id for slot in held.slots]) == [slot.id for slot in held.slots]
    assert ledger.export()["failures"] == []


def fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the next transaction fail as if the database were away."""
    from hpo.storage import transactions

    real: Callable = transactions.run
    failed = []

    def run(engine: Engine, work: Callable) -> object:
        if not failed:
            failed.append(True)
            raise exc.OperationalError("select", {}, Locked("database is locked"))
        return real(engine, work)

    monkeypatch.setattr(transactions, "run", run)


class Locked(Exception):
    """As sqlite3 says it."""


Locked.__module__ = "sqlite3"
