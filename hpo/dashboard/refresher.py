"""Keeps the studies' summaries in Optuna's dashboard up to date while it is served."""

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from hpo.dashboard.study_note import mark, refresh
from hpo.storage.database import is_available
from hpo.storage.ledger import load_study, names

T = TypeVar("T")
LOOK = 5.0  # seconds between two looks whether something has been finished


class Refresher:
    """A thread that looks through the studies every few seconds; a look at one that has not changed only reads."""

    def __init__(self, reading: Any, writing: Any) -> None:
        self.reading, self.writing = reading, writing
        self._told: set[str] = set()
        self._marks: dict[int, str] = {}  # of the studies whose summary tells of all there is
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="summaries", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends it, after the summary that it may be writing, unless that has to wait for the database."""
        self._end.set()
        self._thread.join(timeout=5.0)

    def look(self) -> None:
        """One look at all studies. What fails is told once and tried again at the next look."""
        if not self._try("the studies", lambda: is_available(self.reading)):
            return
        for name in self._try("the studies", lambda: names(self.reading)) or []:
            if self._end.is_set():
                return
            self._try(name, partial(self._refresh, name))

    def _refresh(self, name: str) -> None:
        ledger = load_study(self.reading, name)
        present = mark(ledger)
        if self._marks.get(ledger.id) != present and refresh(load_study(self.writing, name)):
            self._marks[ledger.id] = present

    def _run(self) -> None:
        self.look()
        while not self._end.wait(LOOK):
            self.look()

    def _try(self, what: str, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except Exception as error:  # whatever it is: the pages must go on
            said = str(error).strip().splitlines() or [""]
            line = (
                f"hpo: the summary of {what} was not kept up to date ({type(error).__name__}: {said[0]}); trying again"
            )
            if line not in self._told:
                self._told.add(line)
                print(line, file=sys.stderr, flush=True)
            return None
