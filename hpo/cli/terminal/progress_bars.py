"""Progress bars on a terminal: one per configuration and phase, for all workers together."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hpo.cli.terminal.progress_lines import PHASES, Counts
from hpo.cli.terminal.status import best_score
from hpo.output import visible

MAX_NAME = 22  # characters, so that a line fits into 80 columns


class Training(NamedTuple):
    """What one worker of this process is training."""

    bar: tuple[str, str]
    epoch: int
    epochs: int
    models: int


class Bars:
    """Bars that follow the ledger, with the epoch of the slowest worker of this process."""

    def __init__(self, counts: Counts, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self.tasks: dict[tuple[str, str], TaskID] = {
            (name, phase): self.progress.add_task(f"{_shortened(name)} {phase}", state="", start=False)
            for phase in PHASES
            for name in counts
        }
        self.trainings: dict[int, Training] = {}
        self.update(counts)
        self.progress.start()

    def receive(self, worker: int, message: Mapping[str, Any]) -> None:
        """Notes what a message says that a worker of this process is training."""
        if message["kind"] == "epoch":
            bar = (message["configuration"], "reruns" if message["phase"] == "rerun" else "trials")
            self.trainings[worker] = Training(bar, message["epoch"], message["epochs"], message["models"])
            self._describe(bar)
        elif message["kind"] in ("finished", "failed") and worker in self.trainings:
            self._describe(self.trainings.pop(worker).bar)

    def update(self, counts: Counts) -> None:
        """Shows the counts of the ledger."""
        self.counts = counts
        present = "reruns" if self._is_tuned() else "trials"
        all_fit = len(self.tasks) + 2 <= self.console.height
        for (name, phase), task in self.tasks.items():
            done, total = counts[name][f"{phase}_done"], counts[name][f"{phase}_total"]
            # If not all bars fit on the screen, only those of the present phase are shown.
            self.progress.update(task, completed=done, total=total, visible=all_fit or phase == present)
            self._describe((name, phase))

    def stop(self) -> None:
        """Ends the updates; the bars stay on the screen."""
        self.progress.stop()

    def _describe(self, bar: tuple[str, str]) -> None:
        name, phase = bar
        task, entry = self.tasks[bar], self.counts[name]
        state = ""
        if entry[f"{phase}_done"] == entry[f"{phase}_total"]:
            state = f"best {best_score(entry)}" if phase == "trials" else ""
            self.progress.start_task(task)
            self.progress.stop_task(task)
        else:
            trainings = [training for training in self.trainings.values() if training.bar == bar]
            leased = entry["leased"] if self._is_tuned() == (phase == "reruns") else 0
            models = max(sum(training.models for training in trainings), leased)
            if trainings:
                slowest = min(trainings, key=lambda training: training.epoch)
                state = f"epoch {slowest.epoch}/{slowest.epochs} × {models}"
            elif models:
                state = f"{models} in training"
            if models:
                self.progress.start_task(task)
        self.progress.update(task, state=state)

    def _is_tuned(self) -> bool:
        """Whether tuning is over, so that leased runs are reruns."""
        return all(entry["trials_done"] + entry["failed"] >= entry["trials_total"] for entry in self.counts.values())


def _shortened(name: str) -> str:
    """The name with its middle cut out if it is long; variants differ at its end."""
    name, half = visible(name), MAX_NAME // 2
    return name if len(name) <= MAX_NAME else f"{name[:half]}…{name[1 - half :]}"
