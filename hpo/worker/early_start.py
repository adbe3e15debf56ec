"""Worker processes that load their modules while `hpo run` still loads its own, and then wait for their device."""

import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from hpo.worker import processes

LARGEST_MESSAGE = 2**16  # bytes

Process = subprocess.Popen[str]


class EarlyWorkers:
    """Processes of one command that wait; those that nobody needs are ended on exit."""

    def __init__(self, command: Sequence[str], count: int) -> None:
        """Starts `count` processes of `command`, which is `hpo worker` with all but its device."""
        self.command = list(command)
        self._waiting = [processes.start_process([*command, "--wait"], {}) for _ in range(count)]

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> Process:
        """A process of `command`, which is `self.command` with further words: one that waits, else a new one."""
        further = list(command[len(self.command) :])
        assert self.command + further == list(command)
        while self._waiting:
            process = self._waiting.pop(0)
            assert process.stdin is not None
            with suppress(OSError):  # it has ended
                process.stdin.write(json.dumps({"words": further, "environment": {**os.environ, **environment}}) + "\n")
                process.stdin.flush()
                return process
            _discard(process)
        return processes.start_process(command, environment)

    def keep(self, count: int) -> None:
        """Ends those that wait beyond so many: each has its own copy of PyTorch in memory."""
        while len(self._waiting) > count:
            _discard(self._waiting.pop())

    def __enter__(self) -> "EarlyWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        self.keep(0)


def _discard(process: Process) -> None:
    """Ends a process that holds nothing yet."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            pipe.close()  # type: ignore[union-attr]


def wait_for_start() -> list[str]:
    """Loads a worker's modules and waits; returns the further words of its command, and takes over the environment.

    The process ends at once, also while it loads, if the one that started it has ended or does not need it.
    """
    messages = list[bytes]()
    reader = threading.Thread(target=lambda: messages.append(_read_message()), name="hpo-start", daemon=True)
    reader.start()
    import hpo.worker.work  # noqa: F401

    reader.join()
    content: dict[str, Any] = json.loads(messages[0])
    os.environ.update(content["environment"])
    words: list[str] = content["words"]
    return words


def _read_message() -> bytes:
    """The line on standard input, unbuffered: the rest belongs to `stop_with_parent`."""
    message = b""
    while not message.endswith(b"\n"):
        part = os.read(0, LARGEST_MESSAGE)
        if not part:
            os._exit(0)
        message += part
    return message
