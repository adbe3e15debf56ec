"""Stops a worker after a signal, at a safe moment: never between a change in the database and its record here."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hpo.errors import UsageError
from hpo.output import write_line
from hpo.worker.slurm_job import let_preempted_job_be_requeued

OVERDUE = 2.0  # seconds after a signal in which the main thread can release its leases and end
LAST_RESORT = 1.5  # seconds that another thread then gets for it
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
    """Raised in the main thread after a signal; leaves the process with exit code 128 + signal number.

    Attributes:
        unreleased: what could not be released, as a sentence; "" if nothing is left.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number
        self.unreleased = ""


class Stop:
    """Turns signals into `Stopped`, but only inside `interruptible()` or in `check()`.

    Elsewhere, and after the first, a signal is only remembered, so that it interrupts neither a transaction nor the
    release after the first signal. If a worker has not ended OVERDUE seconds after a signal, because a database or a
    long operation does not return, a thread calls `last_resort` and ends the process; not after Ctrl-C in a notebook or
    a Python prompt, where more than the worker would be lost.

    Attributes:
        last_resort: releases what it can, for LAST_RESORT seconds; None: the process is never ended by the thread.
        unreleased: what a person must know if `last_resort` cannot release everything.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.last_resort: Callable[[], bool] | None = None
        self.unreleased: Callable[[], str] = str
        self._ended = threading.Event()
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
        ending = {number for number in numbers if number != signal.SIGINT or not _is_interactive()}
        before: dict[int, Any] = {number: signal.signal(number, self.request) for number in numbers}
        report_ignored = sys.unraisablehook
        sys.unraisablehook = lambda ignored: None if isinstance(ignored.exc_value, Stopped) else report_ignored(ignored)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # written to even if Python code does not run
        threading.Thread(target=self._end_overdue, args=(reader, ending), daemon=True).start()
        try:
            yield self
        finally:
            self._ended.set()
            signal.set_wakeup_fd(wakeup)
            os.close(writer)
            sys.unraisablehook = report_ignored
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end_overdue(self, reader: int, numbers: set[int]) -> None:
        """Waits for a signal, and ends the process if the main thread does not."""
        number = 0
        while byte := os.read(reader, 1):
            number = byte[0]
            if number in numbers and self.last_resort and not self._ended.wait(OVERDUE):
                break
        else:  # the writer is closed
            os.close(reader)
            return
        resort, released = self.last_resort, list[bool]()
        thread = threading.Thread(target=lambda: released.append(resort()), daemon=True)
        thread.start()
        thread.join(LAST_RESORT)
        if not self._ended.is_set():
            words = "unfinished trials and reruns were released" if any(released) else self.unreleased()
            write_line(f"hpo: ended by signal {number}{words and '; '}{words}", error=True)
            let_preempted_job_be_requeued()
            os._exit(128 + number)


def _is_interactive() -> bool:
    """Whether a person's other work is in this process: a notebook or a Python prompt."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules
