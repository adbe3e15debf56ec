"""The database becomes unavailable during the work, for a while or for ever: no result and no attempt is lost."""

from pathlib import Path

import pytest
from fault_run import carry_out
from fault_schedules import outage
from fork_server import ForkServer
from storage_checks import read
from storage_study import make
from storages import Storage
from worker_processes import start_worker, wait_for_training

from hpo.storage import schema
from hpo.storage.database import connect


@pytest.mark.parametrize("seconds", [0.2, 2.0])
def test_every_worker_continues_and_no_attempt_counts(
    databases: Storage, seconds: float, fork_server: ForkServer, tmp_path: Path
) -> None:
    found = carry_out(outage(seconds, workers=3), fork_server, databases, tmp_path)
    assert (found["unavailable"], found["lost"], found["late"]) == (1, 0, 0)


def test_leases_that_expire_during_an_outage_are_not_taken_over(
    databases: Storage, fork_server: ForkServer, tmp_path: Path
) -> None:
    """Leases of 3 s expire during an outage of 5 s, and idle workers would have time to take them over."""
    schedule = outage(5.0, workers=8, lease=3.0, training=(6.2, 6.6), trials=2)
    found = carry_out(schedule, fork_server, databases, tmp_path)
    assert (found["lost"], found["late"]) == (0, 0)


def test_a_database_that_stays_unavailable_is_one_sentence(
    databases: Storage, fork_server: ForkServer, tmp_path: Path
) -> None:
    url = databases.create()
    ledger = make(connect(url))
    worker = start_worker(fork_server, url, tmp_path, seconds=(0.1, 0.2), retry_timeout=1.0)
    wait_for_training(worker)
    with databases.unavailable(url):
        assert worker.wait() == 1
    lines = [line for line in worker.text().splitlines() if not line.startswith("mirror")]
    assert len(lines) == 1 and lines[0].startswith("hpo: the database ") and "failed: " in lines[0], worker.text()
    assert {row["state"] for row in ledger.export()["slots"]} <= {"open", "leased", "done"}
    assert read(ledger, schema.failures) == []
    databases.drop(url)
