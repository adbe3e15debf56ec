"""The database goes away in the middle of the work and comes back, or does not: nothing is lost or charged."""

from pathlib import Path

import pytest
from fault_schedules import carry_out, outage
from fork_server import ForkServer
from storage_checks import read
from storage_study import make
from storages import Storage

from hpo.storage import schema
from hpo.storage.database import connect


@pytest.mark.parametrize("seconds", [0.2, 2.0])
def test_every_worker_goes_on_and_no_attempt_is_charged(
    place: Storage, seconds: float, fork_server: ForkServer, tmp_path: Path
) -> None:
    found = carry_out(outage(seconds, workers=3), fork_server, place, tmp_path)
    assert (found["outage"], found["lost"], found["late"]) == (1, 0, 0)


def test_nobody_takes_over_what_ran_out_during_an_outage(
    place: Storage, fork_server: ForkServer, tmp_path: Path
) -> None:
    """Idle workers would have time to: leases of 1.5 s run out while the database is away for 2.5 s."""
    schedule = outage(2.5, workers=8, lease=1.5, training=(3.4, 3.8), trials=2)
    found = carry_out(schedule, fork_server, place, tmp_path)
    assert (found["lost"], found["late"]) == (0, 0)


def test_a_database_that_stays_away_is_one_sentence(place: Storage, fork_server: ForkServer, tmp_path: Path) -> None:
    url = place.create()
    ledger = make(connect(url))
    log, output = tmp_path / "0.log", tmp_path / "0.txt"
    child = fork_server.start(
        "storage_worker:work", url, "s", str(log), seconds=(0.1, 0.2), retry_timeout=1.0, output=output
    )
    while not (log.exists() and log.stat().st_size):
        assert child.poll() is None, child.text()
    with place.away(url):
        assert child.wait() == 1
    lines = [line for line in child.text().splitlines() if not line.startswith("mirror")]
    assert len(lines) == 1 and lines[0].startswith("hpo: the database ") and "failed: " in lines[0], child.text()
    assert {row["state"] for row in ledger.export()["slots"]} <= {"open", "leased", "done"}
    assert read(ledger, schema.failures) == []
    place.drop(url)
