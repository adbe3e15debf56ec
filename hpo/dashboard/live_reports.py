"""Reports written on request, for studies whose report in the reports folder is missing or out of date."""

import atexit
import shutil
import tempfile
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from hpo.dashboard.study_note import PAUSE, results_digest
from hpo.report import read_record, write_report
from hpo.storage.ledger import Ledger, load_study, names
from hpo.study.author_text import author_file, read_author_text


class LiveReport(NamedTuple):
    """A report written here.

    Attributes:
        folder: the folder around it. time: the monotonic clock's seconds. digest: what it was written from.
    """

    folder: Path
    time: float
    digest: str


class LiveReports:
    """Writes reports to a temporary folder, each at most once in PAUSE seconds and only if its results changed."""

    def __init__(self, engine: Any, reports: Path) -> None:
        """reports: the folder of reports."""
        self.engine, self.reports = engine, reports
        self._lock = threading.Lock()
        self._written: dict[str, LiveReport] = {}

    def folder(self, study: str) -> Path | None:
        """A folder with the folder `study` and its report; None if the one in the reports folder is up to date."""
        if study not in names(self.engine):
            return None
        ledger = load_study(self.engine, study)
        if self._is_up_to_date(ledger):
            return None
        with self._lock:  # other requests for the report wait until it is written
            last, digest = self._written.get(study), f"{results_digest(ledger)} {ledger.changed} {_edit_time(ledger)}"
            if last is None or (last.digest != digest and time.monotonic() - last.time >= PAUSE):
                start = time.monotonic()
                self._written[study] = LiveReport(self._write(ledger), start, digest)
                if last:
                    shutil.rmtree(last.folder, ignore_errors=True)
            return self._written[study].folder

    def _is_up_to_date(self, ledger: Ledger) -> bool:
        """Whether the reports folder has a report that is no older than the newest result, change and edit."""
        try:
            written = (self.reports / ledger.study / "report.html").stat().st_mtime
        except OSError:
            return False
        return max(ledger.last_finished() or 0.0, ledger.changed, _edit_time(ledger)) <= written

    def _write(self, ledger: Ledger) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self._root))
        record = read_record(ledger)
        command = record.study["text"]["command"]
        text = read_author_text(ledger.study, command)
        write_report(record, folder / ledger.study, ledger.study, [command], text)
        return folder

    @cached_property
    def _root(self) -> Path:
        root = Path(tempfile.mkdtemp(prefix="hpo-reports-"))
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        return root


def _edit_time(ledger: Ledger) -> float:
    """When the author's text was last changed or the steps were last timed, in Unix seconds; 0 without both."""
    measured: float = (ledger.step_times or {}).get("time", 0.0)
    file = author_file(ledger.study, ledger.text.get("command", ""))
    try:
        return max(measured, file.stat().st_mtime if file else 0.0)
    except OSError:  # deleted a moment ago
        return measured
