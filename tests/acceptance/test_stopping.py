"""SIGTERM, SIGINT and SIGUSR1: a worker releases its leased trials at once, as if it had not leased them."""

import signal
from collections import Counter
from pathlib import Path

import pytest
from fork_server import ForkServer
from storage_checks import check, read
from storage_study import make, plain_names, plain_study
from storage_worker import read_logs
from waiting import wait_for
from worker_processes import check_end, start_worker, wait_for_training

from hpo.storage import schema
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger


def leased_settings(ledger: Ledger) -> dict[int, dict[str, float]]:
    """Settings of the leased slots by slot id."""
    return {row["id"]: row["setting"] for row in ledger.export()["slots"] if row["state"] == "leased"}


def trial_states(url: str) -> Counter[str]:
    """How many trials of all Optuna studies are in each state."""
    return Counter(trial.state.name for name in plain_names(url) for trial in plain_study(url, name).trials)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_stopped_worker_releases_its_trials(
    url: str, number: signal.Signals, fork_server: ForkServer, tmp_path: Path
) -> None:
    ledger = make(connect(url), trials=4, seeds=2)
    first = start_worker(fork_server, url, tmp_path, 0, seconds=(100.0, 100.0))
    wait_for_training(first)
    leased = leased_settings(ledger)
    first.send_signal(number)
    check_end(first, 128 + number)
    assert len(leased) == 2 and leased_settings(ledger) == {}
    assert trial_states(url) == {"WAITING": 2}, "a trial that was released is no failure"
    assert {row["attempt"] for row in ledger.export()["slots"]} == {0} and read(ledger, schema.failures) == []

    check_end(start_worker(fork_server, url, tmp_path, 1, seconds=(0.0, 0.0)))
    log = read_logs(tmp_path)
    check(ledger, url, log)
    assert trial_states(url) == {"COMPLETE": 2 * (4 + 2)}
    counted = {line["slot"]: line["setting"] for line in log if (line["what"], line["name"]) == ("counted", 1)}
    assert leased.items() <= counted.items() and {line["attempt"] for line in log} == {1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_worker_that_waits_for_others_stops_at_once(
    url: str, number: signal.Signals, fork_server: ForkServer, tmp_path: Path
) -> None:
    ledger = make(connect(url), trials=1, seeds=1)
    ledger.lease("another", 1), ledger.lease("another", 1)
    worker = start_worker(fork_server, url, tmp_path)
    wait_for(lambda: (tmp_path / "0.log.waiting").exists() or worker.poll() is not None)
    assert worker.poll() is None, worker.text()
    worker.send_signal(number)
    check_end(worker, 128 + number)
    assert len(leased_settings(ledger)) == 2
