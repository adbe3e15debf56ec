"""A worker that was stopped, and goes on when another has done its work: it neither crashes nor overwrites."""

import re
import signal
import time
from pathlib import Path

import pytest
from fork_server import ForkServer
from postgres_server import PostgresServer
from storage_checks import check
from storage_study import make
from storage_worker import read_logs

from hpo.storage.database import connect

LEASE = 0.6
BETWEEN = ["after lease 1", "before begin 1", "train 1", "before finish 1", "after finish 1", "after mirror 1"]


# What psycopg says, where warnings are errors, of a connection whose session the server ended meanwhile.
ABANDONED = re.compile(
    r"Exception ignored in: <function BaseConnection\.__del__.*?\nResourceWarning: <psycopg\.Connection[^\n]*\n",
    re.DOTALL,
)


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def work_beside_a_stopped_one(url: str, place: str, fork_server: ForkServer, folder: Path, trials: int = 4) -> None:
    """One worker stops at `place`, another does all the rest, and then the first goes on."""
    ledger = make(connect(url), trials=trials, seeds=2)

    def start(name: int, **options: object) -> object:
        paths = {"log": str(folder / f"{name}.log"), "output": folder / f"{name}.txt"}
        common = {"name": name, "seconds": (0.0, 0.0), "lease": LEASE, "idle_timeout": 1.0}
        return fork_server.start("storage_worker:work", url, "s", **paths, **common, **options)

    first = start(0, die=place, how=signal.SIGSTOP)
    while not stopped(first.pid):
        assert first.poll() is None, f"it never came to {place}: {first.text()}"
        time.sleep(0.01)
    second = start(1)
    assert (second.wait(), second.text()) == (0, "")
    assert ledger.state() == "done"
    first.send_signal(signal.SIGCONT)
    assert (first.wait(), ABANDONED.sub("", first.text())) == (0, "")
    check(ledger, url, read_logs(folder))


@pytest.mark.parametrize("place", BETWEEN)
def test_a_late_worker_is_told_no(url: str, place: str, fork_server: ForkServer, tmp_path: Path) -> None:
    work_beside_a_stopped_one(url, place, fork_server, tmp_path)
    late = [line for line in read_logs(tmp_path) if line["what"] == "late"]
    assert bool(late) == (place in ("before begin 1", "train 1", "before finish 1"))


def test_a_setting_is_kept_although_more_is_known_by_now(url: str, fork_server: ForkServer, tmp_path: Path) -> None:
    """Beyond the start-up trials: the other worker first finishes the rest of the batch, then takes over."""
    work_beside_a_stopped_one(url, "train 9", fork_server, tmp_path, trials=18)
    log = read_logs(tmp_path)
    ids = {row["id"]: row["slot"] for row in make(connect(url), trials=18, seeds=2).export()["slots"]}
    late = [ids[line["slot"]] for line in log if line["what"] == "late"]
    assert late and min(late) >= 10


@pytest.mark.parametrize("place", ["statement 30", "statement 55", "statement 80", "before repair 1", "commit 12"])
def test_a_worker_that_stopped_in_a_transaction_keeps_nobody_from_working(
    postgresql: PostgresServer, place: str, fork_server: ForkServer, tmp_path: Path
) -> None:
    """PostgreSQL ends its session; a SQLite file stays locked until it goes on."""
    url = postgresql.create()
    work_beside_a_stopped_one(url, place, fork_server, tmp_path)
    postgresql.drop(url)
