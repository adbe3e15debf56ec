"""How long this process has been connected to the database without a break."""

import math
import time

# Clocks that run while the machine sleeps, as leases do, on Linux and on macOS; other systems have none.
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def elapsed() -> float:
    """Seconds since some moment, including those during which the machine slept."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class ConnectionHealth:
    """A process that was cut off, or slept, cannot tell a dead worker from one that was cut off as well.

    After an outage all leases have run out, and the workers that hold them need a moment to extend them. So a lease
    that ran out is taken over only by a process that has been connected for a full lease.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._last = -math.inf
        self._max_silence = 0.0  # until somebody asks: a first call may have waited for the end of an outage

    def success(self) -> None:
        """The database has just answered."""
        now = elapsed()
        if self._since is None or now - self._last > self._max_silence:
            self._since = now
        self._last = now

    def failure(self) -> None:
        """The database has just failed to answer."""
        self._since = None

    def stable_for(self, seconds: float) -> bool:
        """Whether the connection has held for `seconds`; from now on, half of that time without an answer ends it."""
        self._max_silence = seconds / 2  # leases are extended after a quarter of their time
        now = elapsed()
        return self._since is not None and now - self._last <= self._max_silence and now - self._since >= seconds
