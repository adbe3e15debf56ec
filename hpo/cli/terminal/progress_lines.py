"""The sentences of a study's plan and of its failures."""

from collections.abc import Mapping
from typing import Any

from hpo.errors import plural
from hpo.output import visible
from hpo.report.progress_log import PHASES
from hpo.storage.ledger.progress import Counts


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
