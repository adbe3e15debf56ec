"""SIGTERM, SIGINT and SIGUSR1 to a worker with work in hand: given back at once, as if it had not been leased."""

import signal
import time
from pathlib import Path

import pytest
from fork_server import Child, ForkServer
from storage_checks import check, read
from storage_study import make
from storage_worker import read_logs

from hpo.storage import schema
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger


def held(ledger: Ledger) -> dict[int, dict[str, float]]:
    """Slot id → setting of what is leased."""
    return {row["id"]: row["setting"] for row in ledger.export()["slots"] if row["state"] == "leased"}


def wait_for_training(child: Child, log: Path) -> None:
    while '"leased"' not in (log.read_text() if log.exists() else ""):
        assert child.poll() is None, child.text()
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_stopped_worker_gives_back_what_it_has_in_hand(
    url: str, number: signal.Signals, fork_server: ForkServer, tmp_path: Path
) -> None:
    ledger = make(connect(url), trials=4, seeds=2)

    def start(name: int, seconds: float) -> Child:
        paths = {"log": str(tmp_path / f"{name}.log"), "output": tmp_path / f"{name}.txt"}
        return fork_server.start("storage_worker:work", url, "s", **paths, name=name, seconds=(seconds, seconds))

    first = start(0, seconds=100.0)
    wait_for_training(first, tmp_path / "0.log")
    in_hand = held(ledger)
    first.send_signal(number)
    assert (first.wait(), first.text()) == (128 + number, "")
    assert len(in_hand) == 2 and held(ledger) == {}
    assert {row["attempt"] for row in ledger.export()["slots"]} == {0} and read(ledger, schema.failures) == []

    second = start(1, seconds=0.0)
    assert (second.wait(), second.text()) == (0, "")
    log = read_logs(tmp_path)
    check(ledger, url, log)
    again = {line["slot"]: line["setting"] for line in log if (line["what"], line["name"]) == ("counted", 1)}
    assert in_hand.items() <= again.items() and {line["attempt"] for line in log} == {1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_worker_that_waits_for_others_stops_at_once(
    url: str, number: signal.Signals, fork_server: ForkServer, tmp_path: Path
) -> None:
    ledger = make(connect(url), trials=1, seeds=1)
    ledger.lease("another", 1), ledger.lease("another", 1)
    child = fork_server.start("storage_worker:work", url, "s", log=str(tmp_path / "0.log"), output=tmp_path / "0.txt")
    time.sleep(0.5)
    assert child.poll() is None
    child.send_signal(number)
    assert (child.wait(), child.text()) == (128 + number, "") and len(held(ledger)) == 2
