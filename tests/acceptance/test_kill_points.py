"""A worker killed between any two of its writes, or at any statement: the next worker finishes the study."""

import signal
from pathlib import Path

import pytest
from fork_server import ForkServer
from storage_checks import check, read
from storage_study import make
from storage_worker import POINTS, read_logs
from worker_processes import check_end, start_worker

from hpo.storage import schema
from hpo.storage.database import connect

# Workers are killed one after the other, each at the next of these points; the last one finishes.
CHAINS = [
    ("before repair 1", "after repair 1", "before lease 1"),
    ("after lease 1", "before assign 1", "after assign 1"),
    ("before begin 1", "after begin 1", "before note_trials 1"),
    ("after note_trials 1", "train 1", "before finish 1"),
    ("after finish 1", "before mirror 1", "after mirror 1"),
    ("before live 1", "after live 1", "after live 2"),
    ("train 2", "before finish 2", "after finish 2"),
    ("before release 1", "after release 1", "exit 1"),
    ("statement 7", "statement 23", "statement 61"),
    ("statement 111", "statement 80", "statement 40"),
    ("commit 13", "commit 8", "commit 4"),
]


def test_every_point_is_tested() -> None:
    points = {point.rpartition(" ")[0] for chain in CHAINS for point in chain}
    assert {f"{when} {point}" for point in POINTS for when in ("before", "after")} <= points


@pytest.mark.parametrize("chain", CHAINS, ids=", ".join)
def test_a_worker_may_be_killed_anywhere(
    url: str, chain: tuple[str, ...], fork_server: ForkServer, tmp_path: Path
) -> None:
    ledger = make(connect(url), trials=4, seeds=2)
    for name, die in enumerate((*chain, "")):
        worker = start_worker(fork_server, url, tmp_path, name, seconds=(0, 0), die=die)
        check_end(worker, -signal.SIGKILL if die else 0)
    check(ledger, url, read_logs(tmp_path))
    assert len(read(ledger, schema.failures)) <= 3 * len(chain)  # only what the killed workers held
