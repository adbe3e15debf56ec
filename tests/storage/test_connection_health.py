"""Who may take over a lease that ran out: those who have been connected for a full lease; and one connection each."""

import sqlite3
import time
from typing import Any

import pytest
import sqlalchemy as sa
from postgres_server import PostgresServer
from sqlalchemy import exc
from sqlalchemy.engine import Engine
from storage_study import make, outcomes

from hpo.storage import transactions
from hpo.storage.database import connect
from hpo.storage.ledger import Outcome, Work, connection_health, load_study, new_worker_id
from hpo.storage.ledger.connection_health import ConnectionHealth
from hpo.worker.loop import run_worker

CONNECTIONS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def elapsed(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(connection_health, "elapsed", clock.elapsed)
    return clock


def succeed(health: ConnectionHealth, clock: Clock, seconds: float) -> None:
    """An answer every 5 seconds."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 5.0
        health.success()


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has this clock")
def test_the_clock_runs_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 7.0}.get)
    assert connection_health.elapsed() == 7.0


def test_a_connection_is_stable_after_a_failure_only_when_it_has_held_again(clock: Clock) -> None:
    health = ConnectionHealth()
    assert not health.stable_for(0.0)
    health.success()
    assert health.stable_for(0.0) and not health.stable_for(60.0)
    succeed(health, clock, 55)
    assert not health.stable_for(60.0)
    succeed(health, clock, 5)
    assert health.stable_for(60.0)
    health.failure()
    assert not health.stable_for(60.0)
    succeed(health, clock, 60)
    assert not health.stable_for(60.0)
    succeed(health, clock, 5)
    assert health.stable_for(60.0)


def test_a_silence_breaks_the_connection(clock: Clock) -> None:
    health = ConnectionHealth()
    health.success()
    assert not health.stable_for(60.0)
    succeed(health, clock, 100)
    assert health.stable_for(60.0)
    clock.now += 31
    assert not health.stable_for(60.0)  # before the next answer
    health.success()
    assert not health.stable_for(60.0)
    succeed(health, clock, 60)
    assert health.stable_for(60.0)


def test_a_silence_before_the_first_question_breaks_the_connection(clock: Clock) -> None:
    """A worker that connects just before an outage asks for the first time when its first call has come through."""
    health = ConnectionHealth()
    health.success()
    clock.now += 61
    health.success()
    assert not health.stable_for(60.0)
    succeed(health, clock, 60)
    assert health.stable_for(60.0)


def test_expired_leases_stay_with_their_workers_until_the_connection_is_stable(url: str) -> None:
    first = make(connect(url))
    held = first.lease("elsewhere:1:0:x", 10, 0.3)
    newcomer = load_study(first.engine, "s")
    other = newcomer.lease("elsewhere:2:0:y", 10, 0.3)
    assert held and other and other.configuration != held.configuration
    time.sleep(0.35)
    ids = [slot.id for slot in held.slots]
    assert first.extend_lease("elsewhere:1:0:x", ids, 0.3) == ids  # late, but still this worker's
    assert newcomer.extend_lease("elsewhere:2:0:y", [slot.id for slot in other.slots], 60) != []
    end, leased = time.monotonic() + 60, None
    while leased is None and time.monotonic() < end:
        leased = newcomer.lease("elsewhere:2:0:y", 10, 0.3)
        time.sleep(0.02)
    assert leased is not None and {(slot.id, slot.attempt) for slot in leased.slots} == {(id, 2) for id in ids}
    assert first.finish("elsewhere:1:0:x", [Outcome(slot.id, slot.attempt, 0.5) for slot in held.slots]) == []


def test_after_an_outage_no_lease_is_taken_over_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = load_study(make(connect(url)).engine, "s")
    held = ledger.lease("elsewhere:1:0:x", 10, 0.5)
    assert held is not None
    end = time.monotonic() + 20
    while not (ledger.state() == "work" and ledger.health.stable_for(0.5)):
        assert time.monotonic() < end
        time.sleep(0.05)
    run, failed = transactions.run, list[bool]()

    def fail_once(engine: Engine, work: Any) -> object:
        if not failed:
            failed.append(True)
            raise exc.OperationalError("select", {}, sqlite3.OperationalError("database is locked"))
        return run(engine, work)

    monkeypatch.setattr(transactions, "run", fail_once)
    leased = ledger.lease("elsewhere:2:0:y", 10, 0.5)
    assert leased is not None and leased.configuration != held.configuration
    assert ledger.extend_lease("elsewhere:1:0:x", [slot.id for slot in held.slots]) == [slot.id for slot in held.slots]
    assert ledger.export()["failures"] == []


def test_a_worker_keeps_one_connection_while_it_trains(postgresql: PostgresServer) -> None:
    """By default a server accepts a hundred, which is enough for almost as many workers."""
    url = postgresql.create()
    ledger = make(connect(url), trials=4, seeds=2)
    watcher = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    connection, seen = watcher.connect(), []

    def train(work: Work) -> list[Outcome]:
        time.sleep(0.15)  # meanwhile the lease is extended
        end = time.monotonic() + 10
        while (count := connection.scalar(sa.text(CONNECTIONS))) != 1 and time.monotonic() < end:
            time.sleep(0.02)  # a closed connection may take a moment to disappear
        seen.append(count)
        return outcomes(work)

    run_worker(ledger, train, new_worker_id(), population=4, lease=0.5)
    assert seen == [1] * 4
    connection.close()
    watcher.dispose()
    ledger.engine.dispose()
    postgresql.drop(url)
