"""Progress bars on a terminal: one per configuration and phase, for all workers together, and what they train."""

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from hpo.output import visible
from hpo.report.progress_log import PHASES, best_score
from hpo.storage.ledger.progress import Counts, lines
from hpo.storage.ledger.progress import Progress as StudyProgress

MAX_NAME = 22  # characters, so that a line fits into 80 columns
MAX_WORKERS = 4  # shown below the bars


class Bars:
    """Bars that follow the ledger, with what the workers on all machines train below them."""

    def __init__(self, counts: Counts, console: Console) -> None:
        self.console = console
        self.progress = _Progress(
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
        self.update(counts)
        self.progress.start()

    def update(self, counts: Counts, present: StudyProgress | None = None) -> None:
        """Shows the counts of the ledger and what is trained at present."""
        self.progress.lines = lines(present, MAX_WORKERS) if present else []
        all_fit = len(self.tasks) + MAX_WORKERS + 2 <= self.console.height
        for (name, phase), task in self.tasks.items():
            entry = counts[name]
            done, total = entry[f"{phase}_done"], entry[f"{phase}_total"]
            current = "trials" if entry["trials_done"] + entry["failed"] < entry["trials_total"] else "reruns"
            best = best_score(entry) if phase == "trials" else "–"
            state = "" if best == "–" else f"best {best}"
            # If not all bars fit on the screen, only that of the present phase of each configuration is shown.
            shown = all_fit or phase == current
            self.progress.update(task, completed=done, total=total, visible=shown, state=state)
            if done == total or (phase == current and entry["leased"]):
                self.progress.start_task(task)
            if done == total:
                self.progress.stop_task(task)

    def stop(self) -> None:
        """Ends the updates; the bars stay on the screen."""
        self.progress.lines = []
        self.progress.stop()


class _Progress(Progress):
    """Bars with lines of text below them."""

    lines: list[str] = []  # noqa: RUF012  # set before each drawing, never changed

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(visible("\n".join(self.lines), keep="\n"), style="dim")


def _shortened(name: str) -> str:
    """The name with its middle cut out if it is long; variants differ at its end."""
    name, half = visible(name), MAX_NAME // 2
    return name if len(name) <= MAX_NAME else f"{name[:half]}…{name[1 - half :]}"
