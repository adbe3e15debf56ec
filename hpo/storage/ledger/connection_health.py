"""Contact: for how long this process has been able to reach the database without a break."""

import math
import time

# Goes on while the machine sleeps, as the leases do: on Linux, on macOS; elsewhere there is no such clock.
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def elapsed() -> float:
    """Seconds since some moment, those during which the machine slept included."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class ConnectionHealth:
    """Whoever was cut off, or slept, cannot tell a worker that died from one that was cut off as well.

    After an outage all leases have run out, and the workers that hold them need a moment to renew them. So a lease
    that ran out is taken over only by those that have had contact for a full lease themselves.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._last = -math.inf
        self._silence = math.inf

    def success(self) -> None:
        """The database has just answered."""
        now = elapsed()
        if self._since is None or now - self._last > self._silence:
            self._since = now
        self._last = now

    def failure(self) -> None:
        """The database has just failed to answer."""
        self._since = None

    def stable_for(self, seconds: float) -> bool:
        """Whether contact has lasted for `seconds`; a silence of half of that breaks it from now on."""
        self._silence = seconds / 2  # leases are renewed after a quarter of their time
        now = elapsed()
        return self._since is not None and now - self._last <= self._silence and now - self._since >= seconds
