"""Workers of the storage tests as processes: started, waited for, and checked at their end."""

import time
from pathlib import Path
from typing import Any

from fork_server import ForkServer, LoggedChild

STUDY = "s"  # the name of the study that they work on


def start_worker(fork_server: ForkServer, url: str, folder: Path, name: int = 0, **options: Any) -> LoggedChild:
    """Starts `storage_worker.work` with its log and output in a folder (`storage_worker.read_logs`)."""
    log, output = folder / f"{name}.log", folder / f"{name}.txt"
    return fork_server.start("storage_worker:work", url, STUDY, str(log), name, output=output, **options)


def wait_for_training(worker: LoggedChild) -> None:
    log = worker.output.with_suffix(".log")
    while '"leased"' not in (log.read_text() if log.exists() else ""):
        assert worker.poll() is None, worker.text()
        time.sleep(0.01)


def check_end(worker: LoggedChild, code: int = 0) -> None:
    """Waits for a worker, which ends with that exit code and without a word."""
    assert (worker.wait(), worker.text()) == (code, "")
