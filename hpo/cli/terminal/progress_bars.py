"""One bar a configuration and phase on a terminal, for all workers together."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hpo.cli.terminal.status import best_score

PHASES = ("trials", "reruns")
LONGEST = 22  # characters of a name, so that a line fits into 80

Counts = Mapping[str, Mapping[str, Any]]


class Training(NamedTuple):
    """What one worker of this process is at."""

    bar: tuple[str, str]
    epoch: int
    epochs: int
    models: int


class Bars:
    """Bars that follow the ledger; beside them the epoch that the slowest of the own workers is in."""

    def __init__(self, counts: Counts, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self.tasks: dict[tuple[str, str], TaskID] = {
            (name, phase): self.bars.add_task(
                f"{_shortened(name)} {phase}",
                total=entry[f"{phase}_total"],
                completed=entry[f"{phase}_done"],
                state="",
                start=False,
            )
            for phase in PHASES
            for name, entry in counts.items()
        }
        self.at: dict[int, Training] = {}
        self.counts = counts
        self.update(counts)
        self.bars.start()

    def hear(self, worker: int, message: Mapping[str, Any]) -> None:
        """A message of a worker of this process."""
        if message["kind"] == "epoch":
            bar = (message["configuration"], "reruns" if message["phase"] == "rerun" else "trials")
            self.at[worker] = Training(bar, message["epoch"], message["epochs"], message["models"])
            self._describe(bar)
        elif message["kind"] in ("finished", "failed") and worker in self.at:
            bar = self.at.pop(worker).bar
            self._describe(bar)

    def update(self, counts: Counts) -> None:
        """Draws what the ledger says."""
        self.counts = counts
        present = "reruns" if self._is_tuned() else "trials"
        room = len(self.tasks) + 2 <= self.console.height
        for (name, phase), task in self.tasks.items():
            done, total = counts[name][f"{phase}_done"], counts[name][f"{phase}_total"]
            # Where not all bars have room, those of the present phase are shown.
            self.bars.update(task, completed=done, total=total, visible=room or phase == present)
            self._describe((name, phase))

    def stop(self) -> None:
        """Leaves the bars as they are."""
        self.bars.stop()

    def _describe(self, bar: tuple[str, str]) -> None:
        name, phase = bar
        task, entry = self.tasks[bar], self.counts[name]
        state = ""
        if entry[f"{phase}_done"] == entry[f"{phase}_total"]:
            state = f"best {best_score(entry)}" if phase == "trials" else ""
            self.bars.start_task(task)
            self.bars.stop_task(task)
        else:
            own = [training for training in self.at.values() if training.bar == bar]
            held = entry["leased"] if self._is_tuned() == (phase == "reruns") else 0
            models = max(sum(training.models for training in own), held)
            if own:
                slowest = min(own, key=lambda training: training.epoch)
                state = f"epoch {slowest.epoch}/{slowest.epochs} × {models}"
            elif models:
                state = f"{models} in training"
            if models:
                self.bars.start_task(task)
        self.bars.update(task, state=state)

    def _is_tuned(self) -> bool:
        """Whether all tuning is over, so that what is leased now are reruns."""
        return all(entry["trials_done"] + entry["failed"] >= entry["trials_total"] for entry in self.counts.values())


def _shortened(name: str) -> str:
    """A name that leaves the bar its room; its end stays, where variants differ."""
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:half]}…{name[1 - half :]}"
