"""The progress of studies: as numbers, and as tables for a terminal."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from textwrap import fill
from typing import Any

from hpo.errors import UsageError, plural
from hpo.output import visible
from hpo.report.progress_log import best_score
from hpo.storage.ledger import Ledger, load_study, names
from hpo.storage.ledger.progress import Progress, Training, duration, lines, progress
from hpo.tasks import metric_words
from hpo.trials import NO_SCORE, PRUNED, count_by_cause, describe_state, failure_text

START_UP = 60.0  # seconds that a first worker may take to load its code
FAILURES = "failures (a diverged run counts as finished; after any other cause it is retried):"

_INDENT: Any = {"width": 80, "initial_indent": "  ", "subsequent_indent": "    ", "break_long_words": False}


def read_status(engine: Any, study: str | None = None) -> dict[str, Any]:
    """Study → {"state", "planned", "workers" (see `Activity`), "configurations" (see `Ledger.counts`), …}.

    "age" is the time since the study was created, in seconds. "score", "speed" (models × epochs per second) and
    "seconds_left" are as in `hpo.storage.ledger.progress.Progress`. A configuration has "last_error" if one of its
    attempts raised an exception. Takes a few small queries per study.

    Raises:
        UsageError: there is no such study.
    """
    if study:
        return {study: _read(load_study(engine, study))}
    studies = {}
    for name in names(engine):
        with suppress(UsageError):  # deleted a moment ago
            studies[name] = _read(load_study(engine, name))
    return studies


def _read(ledger: Ledger) -> dict[str, Any]:
    from hpo.cli.terminal.messages import error_line

    counts, activity = ledger.counts(), ledger.activity()
    present = progress(ledger.definition, counts, activity.workers)
    for configuration, trace in activity.exceptions.items():
        counts[configuration]["last_error"] = error_line(trace)
    return {
        "state": ledger.state(),
        "age": max(0.0, time.time() - ledger.created),
        "planned": activity.planned,
        "score": present.score,
        "speed": present.speed,
        "seconds_left": present.seconds_left,
        "workers": activity.workers,
        "configurations": counts,
    }


def status_text(studies: Mapping[str, Any]) -> str:
    """The status for a terminal: one table per study, followed by its failures by cause."""
    if not studies:
        return "no studies yet; `hpo run STUDY` creates one"
    return "\n\n".join(_study_text(name, study) for name, study in studies.items())


def _study_text(title: str, study: Mapping[str, Any]) -> str:
    rows = [("configuration", "trials", "reruns", "in training", f"best {metric_words(study['score'])}")]
    failures = []
    for configuration, entry in study["configurations"].items():
        trials, reruns = (f"{entry[f'{phase}_done']}/{entry[f'{phase}_total']}" for phase in ("trials", "reruns"))
        ends = [f"{entry[end]} {end}" for end in (PRUNED, NO_SCORE) if entry[end]]
        trials += f" ({', '.join(ends)})" if ends else ""
        name = visible(configuration)
        rows.append((name, trials, reruns, str(entry["leased"]), best_score(entry)))
        text = failure_text(count_by_cause(entry["diverged"], entry["failures"]), entry["failed"])
        text += f"; the last exception: {entry['last_error']}" if "last_error" in entry else ""
        failures += [f"    {name}: {visible(text)}"] if text else []
    state = describe_state(study["state"], sum(entry["failed"] for entry in study["configurations"].values()))
    head = visible(f"{title}: {state}{_workers_text(study)}")
    training = [fill(visible(line), **_INDENT) for line in lines(_progress(study))] if study["state"] != "done" else []
    return "\n".join([head, table(rows), *training, *([f"  {FAILURES}", *failures] if failures else [])])


def _progress(study: Mapping[str, Any]) -> Progress:
    trainings = [Training(**worker["training"]) for worker in study["workers"] if worker["training"]]
    return Progress(trainings, study["score"], study["speed"], study["seconds_left"], len(study["workers"]))


def _workers_text(study: Mapping[str, Any]) -> str:
    """The number of workers by machine and device; empty for a finished study."""
    if study["state"] == "done":
        return ""
    if not study["workers"]:
        new = study["age"] < START_UP and not any(entry["trials_done"] for entry in study["configurations"].values())
        return f"; created {duration(study['age'])} ago, no worker is ready yet" if new else "; no worker is running"
    machines = Counter(
        f"{worker['host']} ({', '.join(filter(None, (worker['device'], worker.get('launch'))))})"
        for worker in study["workers"]
    )
    total = plural(len(study["workers"]), "worker")
    if len(machines) == 1:
        return f"; {total} on {next(iter(machines))}"
    return f"; {total}: " + ", ".join(f"{count} on {machine}" for machine, count in machines.items())


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns, indented by two spaces."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
