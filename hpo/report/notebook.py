"""The progress of a study that a notebook or a script runs: a table that changes, or lines."""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from html import escape
from types import TracebackType
from typing import Any

from hpo.errors import HpoError
from hpo.output import visible, write_line
from hpo.report.formatting import number
from hpo.report.progress_log import ProgressLog
from hpo.storage.ledger.progress import progress

INTERVAL = 1.0  # seconds between two readings of the database
COLUMNS = ("configuration", "trials", "reruns", "best score", "failed")


class Progress:
    """Shows the counts of a ledger while the `with` block runs: a table in a notebook, elsewhere lines on stderr."""

    def __init__(self, ledger: Any, show: bool = True) -> None:
        self._ledger, self._is_shown = ledger, show
        self._over = threading.Event()
        self._update: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._follow, name="hpo-progress", daemon=True)

    def __enter__(self) -> None:
        if not self._is_shown:
            return
        self._update = self._table_in_notebook() if _in_notebook() else self._lines()
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_shown:
            return
        self._over.set()
        self._thread.join(timeout=5)  # it may wait for the database, for which nobody should have to wait
        if kind is None:
            self._update()

    def _follow(self) -> None:
        while not self._over.wait(INTERVAL):
            try:
                self._update()
            except HpoError:  # the database is unavailable: the worker waits for it, and so does this thread
                continue

    def _table_in_notebook(self) -> Callable[[], None]:
        from IPython.display import HTML, display

        def show() -> Any:
            return HTML(table(self._ledger.study, self._ledger.counts()))

        handle = display(show(), display_id=True)
        return lambda: handle.update(show())

    def _lines(self) -> Callable[[], None]:
        ledger, definition = self._ledger, self._ledger.definition
        log = ProgressLog(ledger.counts(), definition["score"], time.monotonic())

        def print_new_lines() -> None:
            counts = ledger.counts()
            for line in log.lines(counts, time.monotonic(), progress(definition, counts, ledger.activity().workers)):
                write_line(line, error=True)

        return print_new_lines


def table(study: str, counts: Mapping[str, Mapping[str, Any]]) -> str:
    """The counts of `Ledger.counts` as HTML."""
    rows = [
        (
            visible(name), f"{entry['trials_done']} of {entry['trials_total']}",
            f"{entry['reruns_done']} of {entry['reruns_total']}",
            "–" if entry["best"] is None else number(entry["best"]), str(entry["failed"]),
        )
        for name, entry in counts.items()
    ]  # fmt: skip
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(visible(study))}</caption><tr>{head}</tr>{body}</table>"


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython is not imported to find out."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return hasattr(get_ipython(), "kernel")
