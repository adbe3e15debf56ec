"""The progress of a study in a notebook: a table that changes while the study runs."""

import sys
import threading
from collections.abc import Mapping
from html import escape
from types import TracebackType
from typing import Any

from hpo.errors import HpoError
from hpo.output import visible
from hpo.report.formatting import number

INTERVAL = 1.0  # seconds between two readings of the database
COLUMNS = ("configuration", "trials", "reruns", "best score", "failed")


class Progress:
    """Shows the counts of a ledger while the `with` block runs; nothing outside a notebook."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self._over = threading.Event()
        self._handle: Any = None
        self._thread = threading.Thread(target=self._follow, name="hpo-progress", daemon=True)

    def __enter__(self) -> None:
        if _in_notebook():
            from IPython.display import HTML, display

            self._handle = display(HTML(self._table()), display_id=True)
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is None:
            return
        self._over.set()
        self._thread.join()
        if kind is None:
            self._show()

    def _follow(self) -> None:
        while not self._over.wait(INTERVAL):
            try:
                self._show()
            except HpoError:  # the database is unavailable: the worker waits for it, and so does this thread
                continue

    def _show(self) -> None:
        from IPython.display import HTML

        self._handle.update(HTML(self._table()))

    def _table(self) -> str:
        return table(self._ledger.study, self._ledger.counts())


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
