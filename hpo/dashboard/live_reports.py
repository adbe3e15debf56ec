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


class LiveReport(NamedTuple):
    """A report written here: the folder around it, the monotonic clock's seconds, and `results_digest` at that time."""

    folder: Path
    time: float
    digest: str


class LiveReports:
    """Writes reports to a temporary folder, each at most once in PAUSE seconds and only if its results changed."""

    def __init__(self, engine: Any, reports: Path, analyses: Path = Path("studies")) -> None:
        """reports: the folder of reports. analyses: the folder whose STUDY.md holds an author's text."""
        self.engine, self.reports, self.analyses = engine, reports, analyses
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
            last, digest = self._written.get(study), results_digest(ledger)
            if last is None or (last.digest != digest and time.monotonic() - last.time >= PAUSE):
                start = time.monotonic()
                self._written[study] = LiveReport(self._write(ledger), start, digest)
                if last:
                    shutil.rmtree(last.folder, ignore_errors=True)
            return self._written[study].folder

    def _is_up_to_date(self, ledger: Ledger) -> bool:
        """Whether the reports folder has a report that is no older than the newest result."""
        try:
            written = (self.reports / ledger.study / "report.html").stat().st_mtime
        except OSError:
            return False
        finished = ledger.last_finished()
        return finished is None or finished <= written

    def _write(self, ledger: Ledger) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self._root))
        record, analysis = read_record(ledger), self.analyses / f"{ledger.study}.md"
        text = analysis.read_text(encoding="utf-8") if analysis.is_file() else None
        write_report(record, folder / ledger.study, ledger.study, [record.study["text"]["command"]], text)
        return folder

    @cached_property
    def _root(self) -> Path:
        root = Path(tempfile.mkdtemp(prefix="hpo-reports-"))
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        return root
