"""What a person sees while a study runs: bars on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console

from hpo.cli.terminal.progress_bars import Bars
from hpo.cli.terminal.progress_lines import ProgressLog, failure_sentence, opening
from hpo.errors import HpoError
from hpo.storage.ledger import Ledger

LOOK = 1.5  # seconds between looks at the ledger, which holds the work of all workers, here and elsewhere

Message = Mapping[str, Any]


class Display:
    """Progress of a study, read from its ledger now and then, with what its own workers say.

    Sentences that several workers say, or one again and again, are shown once.
    """

    def __init__(self, ledger: Ledger, workers: str = "", storage: str = "", console: Console | None = None) -> None:
        """workers, storage: how many where, and the database's address without its password, for the first line."""
        self.ledger = ledger
        self.first_line = (workers, storage)
        self.console = console or Console(highlight=False)
        self.bars: Bars | None = None
        self.said: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._over = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._look_again, name="hpo-progress", daemon=True)

    def __enter__(self) -> "Display":
        counts = self.ledger.counts()
        for line in opening(self.ledger.study, self.ledger.definition, counts, *self.first_line):
            self.line(line)
        self.log = ProgressLog(counts, self.ledger.definition["score"], time.monotonic())
        if self.console.is_terminal:
            self.bars = Bars(counts, self.console)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._wake.set()
        self._thread.join(timeout=5)
        try:
            if kind is None:  # else what went wrong is waited for, not the database
                self._show_counts()
        finally:
            if self.bars:
                self.bars.stop()
        for sentence, times in self.said.items():
            if times > 1:
                self.line(f"{times} times in all: {sentence}")

    def show(self, worker: int, message: Message) -> None:
        """One message of a worker of this process."""
        kind = message["kind"]
        with self._lock:
            if kind == "print":
                self.line(message["text"])
            elif kind == "error":
                self._once(f"hpo: {message['text']}", on=sys.stderr, count=False)
            elif kind == "warning":
                self._once(f"hpo: {message['text']}", count=False)
            elif kind == "failed":
                self._once(failure_sentence(message))
            if self.bars:
                self.bars.hear(worker, message)
        if kind in ("finished", "failed"):
            self._wake.set()

    def line(self, text: str, on: Any = None) -> None:
        """A plain line, above the bars where there are any."""
        if on is not None and not self.bars:
            print(text, file=on, flush=True)
            return
        self.console.print(text, markup=False, soft_wrap=True)
        self.console.file.flush()

    def _once(self, sentence: str, on: Any = None, count: bool = True) -> None:
        if sentence not in self.said:
            self.line(sentence, on)
        self.said[sentence] += 1 if count or sentence not in self.said else 0

    def _look_again(self) -> None:
        while True:
            self._wake.wait(LOOK)
            self._wake.clear()
            if self._over:
                return
            try:
                self._show_counts()
            except HpoError:  # the database is away: the workers wait for it, and so does this
                continue

    def _show_counts(self) -> None:
        counts = self.ledger.counts()
        with self._lock:
            if self.bars:
                self.bars.update(counts)
                return
            for line in self.log.lines(counts, time.monotonic()):
                self.line(line)
