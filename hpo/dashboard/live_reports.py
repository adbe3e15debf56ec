"""Reports of studies that have none in the reports folder, or only an old one, made when they are asked for."""

import atexit
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from hpo.dashboard.study_note import PAUSE, mark
from hpo.report import read_record, write_report
from hpo.storage.database import run_with_retry
from hpo.storage.ledger import Ledger, load_study, names
from hpo.storage.ledger.queries import newest


class Made(NamedTuple):
    """A report that was made here: where, when (by a clock that only runs on), and of what."""

    folder: Path
    time: float
    of: str


class LiveReports:
    """Makes reports in a temporary folder, each at most once in PAUSE seconds and only if something has changed."""

    def __init__(self, engine: Any, written: Path, analyses: Path = Path("studies")) -> None:
        """`written`: the reports folder. `analyses`: where STUDY.md holds the author's own words."""
        self.engine, self.written, self.analyses = engine, written, analyses
        self._lock = threading.Lock()
        self._made: dict[str, Made] = {}
        self._folder: Path | None = None

    def folder(self, study: str) -> Path | None:
        """A folder that holds the folder `study` with its report; None if what was written is all there can be."""
        if study not in names(self.engine):
            return None
        ledger = load_study(self.engine, study)
        if self._is_written(ledger):
            return None
        with self._lock:  # whoever else asks for it meanwhile finds it made
            made, present = self._made.get(study), mark(ledger)
            if made is None or (made.of != present and time.monotonic() - made.time >= PAUSE):
                began = time.monotonic()
                self._made[study] = Made(self._make(ledger), began, present)
                if made:
                    shutil.rmtree(made.folder, ignore_errors=True)
            return self._made[study].folder

    def _is_written(self, ledger: Ledger) -> bool:
        """Whether the reports folder holds a report that is no older than what was finished last."""
        try:
            written = (self.written / ledger.study / "report.html").stat().st_mtime
        except OSError:
            return False
        finished = run_with_retry(self.engine, lambda link: newest(link, ledger.id))
        return finished is None or finished <= written

    def _make(self, ledger: Ledger) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="hpo-reports-"))
            atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        place = Path(tempfile.mkdtemp(dir=self._folder))
        record = read_record(ledger)
        words = self.analyses / f"{ledger.study}.md"
        analysis = words.read_text(encoding="utf-8") if words.is_file() else None
        write_report(record, place / ledger.study, ledger.study, [record.study["text"]["command"]], analysis)
        return place
