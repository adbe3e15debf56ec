"""What a person sees while a study runs: bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hpo.ledger import Ledger

Message = Mapping[str, Any]


class Display:
    """Progress of a study from its ledger and the messages of its workers."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.start = time.monotonic()
        self.console = Console(highlight=False)
        self.score = ledger.definition["score"]
        self.bars: Progress | None = None
        self.tasks: dict[tuple[str, str], TaskID] = {}

    def __enter__(self) -> "Display":
        counts = self.ledger.counts()
        if self.console.is_terminal:
            self.bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                TimeElapsedColumn(),
                console=self.console,
            )
            for phase in ("trials", "reruns"):
                for name, entry in counts.items():
                    label = f"{name} {phase}"
                    self.tasks[name, phase] = self.bars.add_task(
                        label, total=entry[f"{phase}_total"], state="", start=False
                    )
            self.bars.start()
        self._update(counts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self._update(self.ledger.counts())
            self.bars.stop()

    def show(self, _worker: int, message: Message) -> None:
        """One message of a worker."""
        kind = message["kind"]
        if kind in ("print", "warning", "error"):
            self.line(message["text"])
        elif kind == "epoch" and self.bars:
            task = self.tasks[message["configuration"], _phase(message)]
            state = f"epoch {message['epoch']}/{message['epochs']} × {message['models']}"
            self.bars.start_task(task)
            self.bars.update(task, state=state)
        elif kind == "finished":
            counts = self.ledger.counts()
            self._update(counts)
            if not self.bars:
                self.line(self._sentence(message, counts[message["configuration"]]))
        elif kind == "failed":
            self.line(f"{message['configuration']}: {message['models']} failed ({message['cause']}): {message['text']}")

    def line(self, text: str) -> None:
        """A plain line, above the bars where there are any."""
        console = self.bars.console if self.bars else self.console
        console.print(text, markup=False, soft_wrap=True)
        sys.stdout.flush()

    def _sentence(self, message: Message, entry: Mapping[str, Any]) -> str:
        phase = _phase(message)
        best = f", best {self.score.replace('_', ' ')} {_number(entry['best'])}" if phase == "trials" else ""
        seconds = time.monotonic() - self.start
        done, total = entry[f"{phase}_done"], entry[f"{phase}_total"]
        return f"[{seconds:6.1f} s] {message['configuration']}: {done} of {total} {phase}{best}"

    def _update(self, counts: Mapping[str, Mapping[str, Any]]) -> None:
        if not self.bars:
            return
        for (name, phase), task in self.tasks.items():
            done, total = counts[name][f"{phase}_done"], counts[name][f"{phase}_total"]
            self.bars.update(task, completed=done, total=total)
            if done == total:
                best = counts[name]["best"]
                self.bars.update(task, state=f"best {_number(best)}" if phase == "trials" else "")
                self.bars.start_task(task)
                self.bars.stop_task(task)


def _phase(message: Message) -> str:
    return "reruns" if message["phase"] == "rerun" else "trials"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
