"""The sentences of a study's progress: its plan, its progress and its failures."""

from collections.abc import Mapping
from typing import Any

from hpo.cli.terminal.status import best_score
from hpo.errors import plural
from hpo.output import visible
from hpo.storage.ledger.progress import Progress, duration
from hpo.storage.ledger.queries import ENDS
from hpo.tasks import metric_words

PHASES = ("trials", "reruns")
PARTS = 4  # a line after every quarter of a configuration's trials or reruns, and after the last one
MAX_SECONDS = 30.0  # after this time one new result is enough for a line

Counts = Mapping[str, Mapping[str, Any]]


def opening(
    study: str, definition: Mapping[str, Any], counts: Counts, workers: str, storage: str, tuning_runs: int = 1
) -> list[str]:
    """The plan with workers and database, and a second line with the progress of a resumed study.

    Args:
        counts: from `Ledger.counts`. workers: "2 workers on cpu". storage: the database's URL without its password.
    """
    totals = [(entry["trials_total"], entry["reruns_total"]) for entry in counts.values()]
    equal = len(set(totals)) == 1
    trials, reruns = totals[0] if equal else map(sum, zip(*totals, strict=True))
    tuning = plural(trials, "trial")
    if equal and tuning_runs > 1:
        tuning = f"{plural(tuning_runs, 'tuning run')} × {plural(trials // tuning_runs, 'trial')}"
    models = definition.get("seeds_per_trial", 1)
    plan = (
        f"{len(counts)} configurations, {'each' if equal else 'together'} with {tuning} of "
        f"{'at most ' if 'pruner' in definition else ''}{plural(definition['tuning_epochs'], 'epoch')}"
        f"{f' and {models} seeds' if models > 1 else ''}, then {plural(reruns, 'rerun')} of "
        f"{plural(definition['epochs'], 'epoch')}"
    )
    lines = [f"{study}: " + "; ".join(part for part in (plan, workers, storage) if part)]
    done = {phase: sum(entry[f"{phase}_done"] for entry in counts.values()) for phase in PHASES}
    if any(done.values()):
        planned = {phase: sum(entry[f"{phase}_total"] for entry in counts.values()) for phase in PHASES}
        progress = " and ".join(f"{done[phase]} of {planned[phase]} {phase}" for phase in PHASES)
        lines.append(f"resuming: {progress} are finished")
    return lines


def failure_sentence(message: Mapping[str, Any]) -> str:
    """The cause of a failed attempt, from a worker's message; the same failure always gives the same sentence."""
    kind = "rerun" if message["phase"] == "rerun" else "trial"
    return visible(f"{message['configuration']}: a {kind} failed ({message['cause']}): {message['text']}")


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
        if lines and present and present.seconds_left:
            lines[-1] += f"; {duration(present.seconds_left)} left for the study"
        return lines

    def _trial_details(self, entry: Mapping[str, Any]) -> str:
        best = best_score(entry)
        text = "" if best == "–" else f", best {self.score} {best}"
        return text + "".join(f", {entry[end]} {end}" for end in ENDS if entry[end])
