"""The lines by which a study that runs outside a terminal or a notebook shows its progress."""

from collections.abc import Mapping
from typing import Any

from hpo.output import visible
from hpo.storage.ledger.progress import Counts, Progress, duration
from hpo.storage.ledger.queries import ENDS
from hpo.tasks import metric_words

PHASES = ("trials", "reruns")
PARTS = 4  # a line after every quarter of a configuration's trials or reruns, and after the last one
MAX_SECONDS = 30.0  # after this time one new result is enough for a line
MIN_SECONDS_LEFT = 10.0  # less is not shown, as what follows the last rerun takes about as long


class ProgressLog:
    """Selects the lines that are worth printing outside a terminal, so that the log of a long study stays readable."""

    def __init__(self, counts: Counts, score: str, start: float) -> None:
        """start: the present time in seconds, by the clock of `lines`."""
        self.score = metric_words(score)
        self.start = start
        self._printed = {
            (name, phase): (entry[f"{phase}_done"], start) for name, entry in counts.items() for phase in PHASES
        }

    def lines(self, counts: Counts, time: float, present: Progress | None = None) -> list[str]:
        """The new lines, at most one per configuration and phase, the last one with what is trained at present."""
        lines = []
        for phase in PHASES:
            for name, entry in counts.items():
                done, total = entry[f"{phase}_done"], entry[f"{phase}_total"]
                before, when = self._printed.get((name, phase), (0, self.start))
                enough = done == total or done - before >= total / PARTS or time - when >= MAX_SECONDS
                if done > before and enough:
                    self._printed[name, phase] = (done, time)
                    details = self._trial_details(entry) if phase == "trials" else ""
                    lines.append(f"[{time - self.start:6.1f} s] {visible(name)}: {done} of {total} {phase}{details}")
        left = present.seconds_left if present else None
        if lines and left is not None and left >= MIN_SECONDS_LEFT:
            lines[-1] += f"; {duration(left)} left for the study"
        return lines

    def _trial_details(self, entry: Mapping[str, Any]) -> str:
        best = best_score(entry)
        text = "" if best == "–" else f", best {self.score} {best}"
        return text + "".join(f", {entry[end]} {end}" for end in ENDS if entry[end])


def best_score(entry: Mapping[str, Any]) -> str:
    """The best score of a configuration's trials; "–" if every trial that was not pruned diverged."""
    finished = entry["trials_done"] + entry["reruns_done"]
    return "–" if entry["best"] is None or entry["diverged"] + entry["pruned"] >= finished else f"{entry['best']:.4g}"
