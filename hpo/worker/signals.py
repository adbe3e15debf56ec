"""Stopping on a signal at a safe moment: never between a change in the database and the note of it."""

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


def stop_after(duration: str) -> None:
    """Makes this process stop, as by a signal, when `duration` is over: "2h", "90m", "1h30m" or "45s".

    The signal is SIGALRM; whoever has installed a `Stop` gives its work back.

    Raises:
        UsageError: the duration cannot be read or is 0.
    """
    found = DURATION.fullmatch(duration)
    parts = [int(part or 0) for part in found.groups()] if found else [0]
    seconds = sum(part * length for part, length in zip(parts, (86400, 3600, 60, 1), strict=False))
    if not seconds:
        raise UsageError(f"--max-time is {duration!r}; give a time such as 2h, 90m, 1h30m or 45s")
    signal.setitimer(signal.ITIMER_REAL, seconds)


class Stopped(SystemExit):
    """Raised in the main thread after a signal; leaves the process with exit code 128 + signal number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class Stop:
    """Turns signals into `Stopped`, but only inside `interruptible()` or at `check()`.

    Elsewhere, and after the first, a signal is only remembered, so that none can break off a transaction or
    the release that follows the first.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._open = False
        self._again: threading.Timer | None = None

    def request(self, number: int, _frame: FrameType | None = None) -> None:
        """The signal handler."""
        self.number = self.number or number
        if self._open:
            # Raised inside a destructor the exception would be swallowed: ask again until it has got through.
            self._again = threading.Timer(0.5, os.kill, (os.getpid(), self.number))
            self._again.daemon = True
            self._again.start()
            raise Stopped(self.number)

    def check(self) -> None:
        if self.number is not None:
            raise Stopped(self.number)

    def close(self) -> None:
        """Lets no further signal raise: what follows is the release."""
        self._open = False
        if self._again:
            self._again.cancel()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A stretch that a signal may break off at any point."""
        self._open = True
        try:
            self.check()
            yield
        finally:
            self.close()

    @contextmanager
    def installed(self) -> Iterator["Stop"]:
        """Handles the signals while inside; does nothing outside the main thread, as Python demands."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before: dict[int, Any] = {}
        for name in SIGNALS:
            if hasattr(signal, name):
                number = getattr(signal, name)
                before[number] = signal.signal(number, self.request)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
