"""The process that follows a study for a tracker: its failures and its slowness cannot reach the workers."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from hpo.worker.processes import messages_in

DRAIN = 60.0  # seconds to wait for the last runs after the study is done

Show = Callable[[Mapping[str, Any]], None]


@contextmanager
def following(study: str, tracker: str | None, storage: str, show: Show, worker: bool = False) -> Iterator[None]:
    """Runs `hpo log` next to the block, if a tracker is given; it ends by itself when it has logged everything.

    Args:
        study: its name in the database. storage: the database's URL.
        show: called with its messages, from another thread.
        worker: whether to log only what this process trains.
    """
    if tracker is None:
        yield
        return
    command = [sys.executable, "-m", "hpo", "log", study, tracker, "--follow", "--messages"]
    command += ["--of-worker", str(os.getpid())] if worker else []
    with _quiet(command, storage) as process:
        reader = threading.Thread(target=_read, args=(process, show, tracker), daemon=True)
        reader.start()
        try:
            yield
        except BaseException:
            _close(process)  # which may also log the rest, but nobody has to wait for it
            raise
        _close(process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(DRAIN)
            reader.join(1.0)
            return
        show({"kind": "warning", "text": f"{tracker} is slow; the last runs are still being logged in the background"})


@contextmanager
def _quiet(command: Sequence[str], storage: str) -> Iterator[subprocess.Popen[str]]:
    """The process, which is left running at the end; trackers print much to standard error."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env={**os.environ, "HPO_STORAGE": storage},
        start_new_session=True,  # Ctrl-C ends the block, and then this
    )
    yield process
    if process.poll() is None:
        process.returncode = 0  # else Python warns of a process that still runs


def _close(process: subprocess.Popen[str]) -> None:
    """Tells the process that nothing more will come."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()


def _read(process: subprocess.Popen[str], show: Show, tracker: str) -> None:
    assert process.stdout is not None
    warned = False
    for line in process.stdout:
        message = messages_in(line)[-1]
        if message["kind"] != "print":  # by the tracker
            show(message)
            warned |= message["kind"] == "warning"
    if process.wait() != 0 and not warned:
        show({"kind": "warning", "text": f"{tracker} ended early (exit code {process.returncode}); training continues"})
