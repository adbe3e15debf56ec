"""Keeps what is shown of a running study up to date."""

import threading
from collections.abc import Callable
from types import TracebackType

from hpo.errors import HpoError


class Repeated:
    """Calls `update` in a thread while the `with` block runs: at intervals, after `soon`, and once at the end."""

    def __init__(self, update: Callable[[], None], interval: float) -> None:
        """interval: seconds between two calls."""
        self._update, self._interval = update, interval
        self._wake, self._is_over = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="hpo-progress", daemon=True)

    def __enter__(self) -> "Repeated":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._wake.set()
        self._thread.join(timeout=5)  # it may wait for the database, for which nobody should have to wait
        if kind is None:
            self._update()

    def soon(self) -> None:
        """Asks for a call before the interval is over."""
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._interval)
            self._wake.clear()
            if self._is_over:
                return
            try:
                self._update()
            except HpoError:  # the database is unavailable: the workers wait for it, and so does this thread
                continue
