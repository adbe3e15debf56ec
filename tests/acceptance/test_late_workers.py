"""A worker stopped by SIGSTOP that continues when another has done its work neither crashes nor overwrites."""

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
from worker_processes import check_end, start_worker

from hpo.storage.database import connect

LEASE = 0.6  # seconds
BETWEEN = ["after lease 1", "before begin 1", "train 1", "before finish 1", "after finish 1", "after mirror 1"]
# psycopg's warning, an error here, about a connection whose session the server has ended.
ABANDONED = re.compile(
    r"Exception ignored in: <function BaseConnection\.__del__.*?\nResourceWarning: <psycopg\.Connection[^\n]*\n",
    re.DOTALL,
)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def stop_one_of_two_workers(url: str, point: str, fork_server: ForkServer, folder: Path, trials: int = 4) -> None:
    """Stops one worker at a point while another finishes the study; then the first continues."""
    ledger = make(connect(url), trials=trials, seeds=2)
    options = {"seconds": (0.0, 0.0), "lease": LEASE, "idle_timeout": 1.0}
    first = start_worker(fork_server, url, folder, 0, die=point, how=signal.SIGSTOP, **options)
    while not is_stopped(first.pid):
        assert first.poll() is None, f"{point} is not reached: {first.text()}"
        time.sleep(0.01)
    check_end(start_worker(fork_server, url, folder, 1, **options))
    assert ledger.state() == "done"
    first.send_signal(signal.SIGCONT)
    assert (first.wait(), ABANDONED.sub("", first.text())) == (0, "")
    check(ledger, url, read_logs(folder))


@pytest.mark.parametrize("point", BETWEEN)
def test_the_results_of_a_late_worker_do_not_count(
    url: str, point: str, fork_server: ForkServer, tmp_path: Path
) -> None:
    stop_one_of_two_workers(url, point, fork_server, tmp_path)
    late = [line for line in read_logs(tmp_path) if line["what"] == "late"]
    assert bool(late) == (point in ("before begin 1", "train 1", "before finish 1"))


def test_a_setting_is_kept_although_there_are_more_results(url: str, fork_server: ForkServer, tmp_path: Path) -> None:
    """After the start-up trials, the other worker finishes the rest of the batch before it takes over."""
    stop_one_of_two_workers(url, "train 9", fork_server, tmp_path, trials=18)
    log = read_logs(tmp_path)
    ids = {row["id"]: row["slot"] for row in make(connect(url), trials=18, seeds=2).export()["slots"]}
    late = [ids[line["slot"]] for line in log if line["what"] == "late"]
    assert late and min(late) >= 10


@pytest.mark.parametrize("point", ["statement 30", "statement 55", "statement 80", "before repair 1", "commit 12"])
def test_a_worker_stopped_in_a_transaction_blocks_nobody(
    postgresql: PostgresServer, point: str, fork_server: ForkServer, tmp_path: Path
) -> None:
    """PostgreSQL ends its session; a SQLite file stays locked until the worker continues."""
    url = postgresql.create()
    stop_one_of_two_workers(url, point, fork_server, tmp_path)
    postgresql.drop(url)
