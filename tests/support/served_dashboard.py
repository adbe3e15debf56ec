"""The dashboard in its own process."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fork_server import Child, ForkServer


class Served(NamedTuple):
    """A dashboard in its own process."""

    child: Child
    address: str  # without a slash at its end
    url: str
    reports: Path


@contextmanager
def served(fork_server: ForkServer, url: str, folder: Path, **options: Any) -> Iterator[Served]:
    output = folder / f"dashboard{time.monotonic_ns()}.txt"
    output.touch()
    child = fork_server.start("shown_study:serve", url, str(folder / "reports"), output=output, **options)
    try:
        link = until(lambda: re.search(r"(http://\S+)/ ", child.text()) or (child.poll() is not None and child.text()))
        assert isinstance(link, re.Match), link
        yield Served(child, link[1], url, folder / "reports")
        child.send_signal(signal.SIGTERM)
        assert child.wait() == 128 + signal.SIGTERM
        assert len(child.text().splitlines()) == 1, child.text()
    finally:
        child.kill()


def until(look: Callable[[], Any], patience: float = 60.0) -> Any:
    """What `look` gives as soon as it is something."""
    end = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found
