"""Waiting for a condition, for a limited time."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], seconds: float = 60, failure: str = "") -> float:
    """Waits until the condition holds; returns how long that took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, failure
        time.sleep(0.1)
    return time.monotonic() - start
