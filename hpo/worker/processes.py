"""The worker processes that `hpo run` starts on this machine."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from hpo.errors import HpoError
from hpo.worker.signals import Stop

if TYPE_CHECKING:
    from hpo.storage.ledger import Ledger

GRACE = 5.0  # seconds that workers get to release their leases; they end within this time themselves
MARK = "hpo_message"  # the first key of a message; user code may print other JSON
POLL = 0.25  # seconds between two checks of signals and ended workers

Message = dict[str, Any]
Messages = Queue[tuple[int, Message]]
Start = Callable[[Sequence[str], Mapping[str, str]], "subprocess.Popen[str]"]


def run_workers(
    ledger: "Ledger",
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    show: Callable[[int, Message], None],
    start: Start | None = None,
) -> None:
    """Starts one process per command and waits until all have ended.

    Args:
        commands: of workers that write one JSON message per line (`hpo worker --messages`) and stop at the end of
            their standard input, so that none outlives this process.
        show: called with (worker number, message). start: starts a process; by default the function of this module.

    Raises:
        Stopped: after a signal, when the workers have released their slots.
        HpoError: workers ended before the study was done; `show` has received their messages.
    """
    stop, messages, error_shown = Stop(), Messages(), False

    def show_next(timeout: float | None = None) -> None:
        nonlocal error_shown
        number, message = messages.get(timeout=timeout)
        error_shown |= message["kind"] == "error"
        show(number, message)

    with stop.installed():
        processes = [(start or start_process)(command, environment) for command in commands]
        readers = [
            threading.Thread(target=_read, args=(number, process, messages), daemon=True)
            for number, process in enumerate(processes)
        ]
        for reader in readers:
            reader.start()
        try:
            while any(process.poll() is None for process in processes) or not messages.empty():
                stop.check()
                with suppress(Empty):
                    show_next(POLL)
        finally:
            _end(processes)
            for process, reader in zip(processes, readers, strict=True):
                _close(process, reader)
        while not messages.empty():
            show_next()
    codes = [process.returncode for process in processes]
    if any(codes) and ledger.state() != "done":
        raise HpoError(describe_failure(codes, error_shown))


def describe_failure(codes: Sequence[int], error_shown: bool) -> str:
    """Why the study is not done and what to do, from the workers' exit codes.

    Args:
        error_shown: whether a worker has sent an error message.
    """
    failure = "the workers ended before the study was done"
    if error_shown:
        return f"{failure}; fix the error above, then run the same command to resume"
    if -signal.SIGKILL in codes:
        return (
            f"{failure}: {codes.count(-signal.SIGKILL)} of {len(codes)} were killed, probably because the system ran "
            "out of memory; run the same command to resume, with a smaller --population or --workers to use less"
        )
    exits = ", ".join(map(str, codes))
    return f"{failure} (exit code{'s' if len(codes) > 1 else ''} {exits}); run the same command to resume"


def start_process(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A process with pipes for its standard input and output."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        errors="backslashreplace",  # user code may write any bytes
        # The same order of sets in all workers, unless the user has set another.
        env={"PYTHONHASHSEED": "0", **os.environ, **environment},
        # In a new session, Ctrl-C reaches only this process, which then stops the workers in order.
        start_new_session=True,
    )


def _read(number: int, process: subprocess.Popen[str], messages: Messages) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        for message in messages_in(line):
            messages.put((number, message))


def message_line(kind: str, **details: Any) -> str:
    """A message of a process as a line of its standard output, to which user code prints as well."""
    return json.dumps({MARK: kind, **details})


def messages_in(line: str) -> list[Message]:
    """The message at the end of a process's line, if any, and what user code has printed, as another one."""
    text, start, rest = line.rstrip("\n").rpartition(f'{{"{MARK}": ')  # a message contains no other: quotes are escaped
    if start:
        with suppress(ValueError):
            message = json.loads(start + rest)
            message = {"kind": message.pop(MARK), **message}
            return [{"kind": "print", "text": text}, message] if text else [message]
    return [{"kind": "print", "text": line.rstrip("\n")}]


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Ends all running processes, first by SIGTERM so that they release their slots."""
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
    """Closes the pipes of an ended process."""
    reader.join(timeout=1)
    if process.stdin:
        process.stdin.close()
    if process.stdout and not reader.is_alive():  # else a process that the worker started still writes
        process.stdout.close()


def is_follower() -> bool:
    """Whether `torchrun` has started this process to train with another one, which leads."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"


def stop_with_parent() -> None:
    """Stops this worker when the process that started it ends for any reason: its standard input then ends."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="hpo-parent", daemon=True).start()
