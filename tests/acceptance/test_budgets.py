"""Exact budgets: N trials and S reruns, each finished once, whatever dies. Processes killed with -9."""

import random
import time
from pathlib import Path

import pytest
from fork_server import Child, ForkServer
from storage_checks import check
from storage_study import make
from storage_worker import read_logs

from hpo.storage.database import connect

TRIALS, SEEDS = 30, 6


def start(fork_server: ForkServer, url: str, name: int, folder: Path) -> Child:
    log, output = str(folder / f"{name}.log"), folder / f"{name}.txt"
    return fork_server.start("storage_worker:work", url, "s", log, name, output=output)


@pytest.mark.parametrize(("workers", "kills"), [(1, 2), (4, 4)])
def test_exact_budgets_with_workers_killed(
    url: str, workers: int, kills: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    ledger = make(connect(url), trials=TRIALS, seeds=SEEDS)
    rng = random.Random(workers)
    running = [start(fork_server, url, name, tmp_path) for name in range(workers)]
    for name in range(workers, workers + kills):
        time.sleep(rng.uniform(0.05, 0.4))
        victim = running.pop(rng.randrange(len(running)))
        victim.kill()
        assert victim.returncode == -9
        running.append(start(fork_server, url, name, tmp_path))
    assert [(child.wait(), child.text()) for child in running] == [(0, "")] * workers
    check(ledger, url, read_logs(tmp_path))
    assert {row["state"] for row in ledger.export()["slots"]} == {"done"}
