"""`hpo run`: worker processes on this machine, watched until the study needs nothing more."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, Queue
from typing import Any

from hpo.errors import HpoError
from hpo.storage.ledger import Ledger
from hpo.worker.signals import Stop

GRACE = 10.0  # seconds that workers get to give their work back
LOOK = 0.25  # seconds between looks at signals and ended workers

Message = dict[str, Any]


def run_workers(
    ledger: Ledger,
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    show: Callable[[int, Message], None],
) -> None:
    """Starts one process a command and waits until all have ended.

    Args:
        commands: of workers that write one JSON message a line (`hpo worker --messages`) and stop at the end of
            their standard input, so that none outlives this process.
        show: told (worker number, message) as messages come.

    Raises:
        Stopped: a signal came; the workers have given their work back.
        HpoError: workers ended before the study was done; what they said was told to `show`.
    """
    stop, messages = Stop(), Queue[tuple[int, Message]]()
    with stop.installed():
        processes = [_start(command, environment) for command in commands]
        readers = [
            threading.Thread(target=_read, args=(number, process, messages), daemon=True)
            for number, process in enumerate(processes)
        ]
        for reader in readers:
            reader.start()
        said = False
        try:
            while any(process.poll() is None for process in processes) or not messages.empty():
                stop.check()
                with suppress(Empty):
                    number, message = messages.get(timeout=LOOK)
                    said |= message["kind"] == "error"
                    show(number, message)
        finally:
            _end(processes)
            for process, reader in zip(processes, readers, strict=True):
                _close(process, reader)
        while not messages.empty():
            number, message = messages.get()
            said |= message["kind"] == "error"
            show(number, message)
    codes = [process.returncode for process in processes]
    if any(codes) and ledger.state() != "done":
        raise HpoError(ending(codes, said))


def ending(codes: Sequence[int], said: bool) -> str:
    """Why the study is not done, from the workers' exit codes, and what to do.

    Args:
        said: whether a worker has said what is wrong.
    """
    done = "the workers ended before the study was done"
    if said:
        return f"{done}; mend what is said above, then the same command goes on from here"
    if -signal.SIGKILL in codes:
        return (
            f"{done}: {codes.count(-signal.SIGKILL)} of {len(codes)} were killed, as a system does that runs out of "
            "memory; the same command goes on from here, with less memory if given a smaller --population or --workers"
        )
    exits = ", ".join(map(str, codes))
    return f"{done} (exit code{'s' if len(codes) > 1 else ''} {exits}); the same command goes on from here"


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # With one order of sets for all, unless the user has asked for another.
        env={"PYTHONHASHSEED": "0", **os.environ, **environment},
        # A session of its own: Ctrl-C reaches this process alone, which then stops the workers in order.
        start_new_session=True,
    )


def _read(number: int, process: subprocess.Popen[str], messages: Queue[tuple[int, Message]]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        try:
            message = json.loads(line)
        except json.JSONDecodeError:  # the user's own code printed something
            message = {"kind": "print", "text": line.rstrip("\n")}
        if not isinstance(message, dict) or "kind" not in message:
            message = {"kind": "print", "text": line.rstrip("\n")}
        messages.put((number, message))


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Ends what still runs: asks first, so that work is given back."""
    for process in processes:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, deadline - time.monotonic()))
        if process.poll() is None:
            process.kill()
            process.wait()


def _close(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    """Closes the pipes of a process that has ended."""
    reader.join(timeout=1)
    if process.stdin:
        process.stdin.close()
    if process.stdout and not reader.is_alive():  # else a process that the worker started still writes
        process.stdout.close()


def stop_with_parent() -> None:
    """Makes this worker stop when the process that started it ends, however it ends."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="hpo-parent", daemon=True).start()
