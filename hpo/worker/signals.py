"""Stops a worker after a signal, at a safe moment: never between a change in the database and its record here."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hpo.errors import UsageError

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGALRM")
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def seconds_of(duration: str, flag: str = "--time") -> int:
    """The seconds of a duration such as "2h", "90m", "1h30m" or "45s".

    Raises:
        UsageError: it cannot be read or is 0; the sentence names `flag`.
    """
    match = DURATION.fullmatch(duration)
    parts = [int(part or 0) for part in match.groups()] if match else [0]
    seconds = sum(part * length for part, length in zip(parts, (86400, 3600, 60, 1), strict=False))
    if not seconds:
        raise UsageError(f"{flag} is {duration!r}; give a time such as 2h, 90m, 1h30m or 45s")
    return seconds


def stop_after(duration: str) -> None:
    """Sends SIGALRM to this process when `duration` is over; an installed `Stop` handles it."""
    signal.setitimer(signal.ITIMER_REAL, seconds_of(duration, "--max-time"))


class Stopped(SystemExit):
    """Raised in the main thread after a signal; leaves the process with exit code 128 + signal number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class Stop:
    """Turns signals into `Stopped`, but only inside `interruptible()` or in `check()`.

    Elsewhere, and after the first, a signal is only remembered, so that it interrupts neither a transaction nor the
    release after the first signal.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._interruptible = False
        self._repeat: threading.Timer | None = None

    def request(self, number: int, _frame: FrameType | None = None) -> None:
        """The signal handler."""
        self.number = self.number or number
        if self._interruptible:
            # Python ignores an exception that is raised in a destructor: repeat the signal until one is not ignored.
            self._repeat = threading.Timer(0.5, os.kill, (os.getpid(), self.number))
            self._repeat.daemon = True
            self._repeat.start()
            raise Stopped(self.number)

    def check(self) -> None:
        if self.number is not None:
            raise Stopped(self.number)

    def close(self) -> None:
        """From now on signals are only remembered."""
        self._interruptible = False
        if self._repeat:
            self._repeat.cancel()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A signal may interrupt the code inside at any point."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self.close()

    @contextmanager
    def installed(self) -> Iterator["Stop"]:
        """Handles the signals while inside; does nothing outside the main thread, where Python does not allow it."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        before: dict[int, Any] = {number: signal.signal(number, self.request) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
