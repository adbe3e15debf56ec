"""The sentences of a study's progress: what will be done, how far it is, what failed."""

from collections.abc import Mapping
from typing import Any

from hpo.cli.terminal.status import best_score
from hpo.errors import plural
from hpo.storage.ledger.queries import ENDS

PHASES = ("trials", "reruns")
SHARE = 4  # a line after every quarter of a configuration's trials or reruns, and at the end of them
LONGEST = 30.0  # seconds after which anything new is worth a line

Counts = Mapping[str, Mapping[str, Any]]


def opening(study: str, definition: Mapping[str, Any], counts: Counts, workers: str, storage: str) -> list[str]:
    """What will be done, where and by whom; and how much of it is done already, where some is.

    Args:
        counts: of `Ledger.counts`. workers: "2 workers on cpu". storage: the database's address, fit to be printed.
    """
    models = definition.get("seeds_per_trial", 1)
    most = "at most " if "pruner" in definition else ""
    trials = f"{_amount(counts, 'trials', 'trial')} of {most}{plural(definition['tuning_epochs'], 'epoch')}"
    trials += f" with {models} seeds" if models > 1 else ""
    reruns = f"{_amount(counts, 'reruns', 'rerun')} of {plural(definition['epochs'], 'epoch')}"
    plan = f"{len(counts)} configurations, {trials}, then {reruns}"
    lines = [f"{study}: " + "; ".join(part for part in (plan, workers, storage) if part)]
    done = [f"{_sum(counts, f'{phase}_done')} of {_sum(counts, f'{phase}_total')} {phase}" for phase in PHASES]
    if _sum(counts, "trials_done") + _sum(counts, "reruns_done"):
        lines.append(f"goes on from {' and '.join(done)}")
    return lines


def failure_sentence(message: Mapping[str, Any]) -> str:
    """Why an attempt ended, from a worker's message; the same words for the same failure."""
    kind = "rerun" if message["phase"] == "rerun" else "trial"
    return f"{message['configuration']}: a {kind} failed ({message['cause']}): {message['text']}"


class ProgressLog:
    """Decides which lines are worth printing where nothing can be redrawn, so that a long study stays readable."""

    def __init__(self, counts: Counts, score: str, start: float) -> None:
        """start: the clock's seconds now."""
        self.score = score.replace("_", " ")
        self.start = start
        self.told = {
            (name, phase): (entry[f"{phase}_done"], start) for name, entry in counts.items() for phase in PHASES
        }

    def lines(self, counts: Counts, time: float) -> list[str]:
        """What is new since the last lines, a line a configuration and phase."""
        found = []
        for phase in PHASES:
            for name, entry in counts.items():
                done, total = entry[f"{phase}_done"], entry[f"{phase}_total"]
                before, when = self.told.get((name, phase), (0, self.start))
                enough = done == total or done - before >= total / SHARE or time - when >= LONGEST
                if done > before and enough:
                    self.told[name, phase] = (done, time)
                    found.append(
                        f"[{time - self.start:6.1f} s] {name}: {done} of {total} {phase}{self._more(phase, entry)}"
                    )
        return found

    def _more(self, phase: str, entry: Mapping[str, Any]) -> str:
        if phase == "reruns":
            return ""
        best = best_score(entry)
        words = "" if best == "–" else f", best {self.score} {best}"
        return words + "".join(f", {entry[end]} {end}" for end in ENDS if entry[end])


def _amount(counts: Counts, phase: str, thing: str) -> str:
    """ "40 trials each", or "100 trials in all" where configurations differ."""
    totals = [entry[f"{phase}_total"] for entry in counts.values()]
    return f"{plural(totals[0], thing)} each" if len(set(totals)) == 1 else f"{plural(sum(totals), thing)} in all"


def _sum(counts: Counts, key: str) -> int:
    return sum(entry[key] for entry in counts.values())
