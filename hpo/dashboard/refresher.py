"""Keeps the studies' summaries in Optuna's dashboard up to date while it is served."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from hpo.dashboard.study_note import refresh, results_digest
from hpo.output import write_line
from hpo.storage.database import is_available
from hpo.storage.ledger import load_study, names

T = TypeVar("T")
INTERVAL = 5.0  # seconds between two checks for new results


class Refresher:
    """A thread that checks all studies every few seconds; for a study without new results it only reads."""

    def __init__(self, read_engine: Any, write_engine: Any) -> None:
        self.read_engine, self.write_engine = read_engine, write_engine
        self._printed: set[str] = set()
        self._digests: dict[int, str] = {}  # ledger id -> the results in an up-to-date summary
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="summaries", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the summary that it is writing, but does not wait long for the database."""
        self._end.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        self._refresh_all()
        while not self._end.wait(INTERVAL):
            self._refresh_all()

    def _refresh_all(self) -> None:
        if not self._try("the studies", lambda: is_available(self.read_engine)):
            return
        for name in self._try("the studies", lambda: names(self.read_engine)) or []:
            if self._end.is_set():
                return
            self._try(name, partial(self._refresh, name))

    def _refresh(self, name: str) -> None:
        ledger = load_study(self.read_engine, name)
        digest = results_digest(ledger)
        if self._digests.get(ledger.id) != digest and refresh(load_study(self.write_engine, name)):
            self._digests[ledger.id] = digest

    def _try(self, subject: str, action: Callable[[], T]) -> T | None:
        """The action's result; an error is printed once and the action is repeated at the next check."""
        try:
            return action()
        except Exception as error:  # of any kind: the pages must not fail for it
            if not is_available(self.read_engine):  # lost meanwhile
                return None
            reason = (str(error).strip().splitlines() or [""])[0]
            line = f"hpo: the summary of {subject} could not be updated ({type(error).__name__}: {reason}); retrying"
            if line not in self._printed:
                self._printed.add(line)
                write_line(line, error=True)
            return None
