"""The progress of a running study: bars on a terminal, lines of text elsewhere."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console

from hpo.cli.terminal.progress_bars import Bars
from hpo.cli.terminal.progress_lines import failure_sentence, opening
from hpo.output import visible, write_line
from hpo.report.progress_log import ProgressLog
from hpo.report.repeated import Repeated
from hpo.storage.ledger import Ledger
from hpo.storage.ledger.progress import progress

INTERVAL = 1.5  # seconds between reads of the ledger, which holds the results of the workers on all machines

Message = Mapping[str, Any]


class Display:
    """The progress of a study, from its ledger and the messages of the workers of this process.

    A sentence that several workers send, or one of them repeatedly, is shown once.
    """

    def __init__(self, ledger: Ledger, workers: str = "", storage: str = "", console: Console | None = None) -> None:
        """workers, storage: number and devices of the workers, and the database's URL without its password."""
        self.ledger = ledger
        self.workers, self.storage = workers, storage
        self.console = console or Console(highlight=False)
        self.bars: Bars | None = None
        self._shown: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._counts = Repeated(self._show_counts, INTERVAL)

    def __enter__(self) -> "Display":
        counts = self.ledger.counts()
        runs = self.ledger.planned["tuning_runs"]
        for line in opening(self.ledger.study, self.ledger.definition, counts, self.workers, self.storage, runs):
            self.print(line)
        self.log = ProgressLog(counts, self.ledger.definition["score"], time.monotonic())
        if self.console.is_terminal:
            self.bars = Bars(counts, self.console)
        self._counts.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._counts.__exit__(kind, error, trace)
        finally:
            if self.bars:
                self.bars.stop()
        for sentence, times in self._shown.items():
            if times > 1:
                self.print(f"{times} times in total: {sentence}")

    def show(self, _worker: int, message: Message) -> None:
        """Shows a message of a worker of this process."""
        kind = message["kind"]
        with self._lock:
            if kind in ("print", "logged"):
                self.print(message["text"], wrap=False)
            elif kind == "failed":
                self._print_once(failure_sentence(message))
                self._shown[failure_sentence(message)] += 1
            elif kind in ("error", "warning"):
                self._print_once(f"hpo: {message['text']}", kind == "error")
        if kind in ("finished", "failed"):
            self._counts.soon()

    def print(self, text: str, error: bool = False, wrap: bool = True) -> None:
        """Prints a line above the bars if there are any, else to standard output or error.

        A terminal would break a long line within a word; with `wrap` it is broken between words.
        """
        if error and not self.bars:
            write_line(text, error=True)
            return
        whole = not (wrap and self.console.is_terminal)
        self.console.print(visible(text, keep="\n\t"), markup=False, soft_wrap=whole)
        self.console.file.flush()

    def _print_once(self, sentence: str, error: bool = False) -> None:
        if sentence not in self._shown:
            self._shown[sentence] = 0
            self.print(sentence, error)

    def _show_counts(self) -> None:
        counts = self.ledger.counts()
        present = progress(self.ledger.definition, counts, self.ledger.activity().workers)
        with self._lock:
            if self.bars:
                self.bars.update(counts, present)
                return
            for line in self.log.lines(counts, time.monotonic(), present):
                self.print(line)
