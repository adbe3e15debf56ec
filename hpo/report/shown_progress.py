"""The progress of a study that a notebook or a script runs: a table that changes, or lines."""

import sys
import time
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from hpo.output import visible, write_line
from hpo.report.progress_log import ProgressLog, best_score
from hpo.report.repeated import Repeated
from hpo.storage.ledger.progress import progress

INTERVAL = 1.0  # seconds between two readings of the database
COLUMNS = ("configuration", "trials", "reruns", "best score", "failed")


def shown_progress(ledger: Any) -> Repeated:
    """Shows the counts of a ledger while the `with` block runs: a table in a notebook, elsewhere lines on stderr."""
    return Repeated(_table_in_notebook(ledger) if _in_notebook() else _lines(ledger), INTERVAL)


def _table_in_notebook(ledger: Any) -> Callable[[], None]:
    from IPython.display import HTML, display

    def show() -> Any:
        return HTML(table(ledger.study, ledger.counts()))

    handle = display(show(), display_id=True)
    return lambda: handle.update(show())


def _lines(ledger: Any) -> Callable[[], None]:
    log = ProgressLog(ledger.counts(), ledger.definition["score"], time.monotonic())

    def print_new_lines() -> None:
        counts = ledger.counts()
        present = progress(ledger.definition, counts, ledger.activity().workers)
        for line in log.lines(counts, time.monotonic(), present):
            write_line(line, error=True)

    return print_new_lines


def table(study: str, counts: Mapping[str, Mapping[str, Any]]) -> str:
    """The counts of `Ledger.counts` as HTML."""
    rows = [
        (
            visible(name), f"{entry['trials_done']} of {entry['trials_total']}",
            f"{entry['reruns_done']} of {entry['reruns_total']}",
            best_score(entry), str(entry["failed"]),
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
