"""How far the studies in a database are: as numbers, and as a table for a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from hpo.errors import UsageError, did_you_mean, plural
from hpo.storage.ledger import Ledger, load_study, names
from hpo.trials import NO_SCORE, PRUNED, count_by_cause, describe_state, failure_text

MEANING = "failures (a run that diverged is finished; any other cause ends an attempt, which is made again):"


def open_known(engine: Any, name: str) -> Ledger:
    """A study that exists.

    Raises:
        UsageError: there is none of that name; the message offers one that is close.
    """
    known = names(engine)
    if name not in known:
        held = ", ".join(known) or "none yet"
        raise UsageError(f"there is no study {name!r} in this database; it holds: {held}{did_you_mean(name, known)}")
    return load_study(engine, name)


def status(engine: Any, study: str | None = None) -> dict[str, Any]:
    """Study → {"state", "planned", "score", "workers" (see `Activity`), "configurations" (see `Ledger.counts`)}.

    A configuration also has "last_error" where an exception ended one of its attempts. A few small queries a study.

    Raises:
        UsageError: there is no such study.
    """
    if study:
        return {study: _one(open_known(engine, study))}
    found = {}
    for name in names(engine):
        with suppress(UsageError):  # deleted a moment ago
            found[name] = _one(load_study(engine, name))
    return found


def _one(ledger: Ledger) -> dict[str, Any]:
    from hpo.cli.terminal.messages import own_line
    from hpo.storage.ledger.presence import read_activity

    counts, seen = ledger.counts(), read_activity(ledger)
    for configuration, trace in seen.exceptions.items():
        counts[configuration]["last_error"] = own_line(trace)
    return {
        "state": ledger.state(),
        "planned": seen.planned,
        "score": ledger.definition["score"],
        "workers": seen.workers,
        "configurations": counts,
    }


def status_text(found: Mapping[str, Any]) -> str:
    """The status for a terminal: a table a study, and under it the failures by cause."""
    if not found:
        return "no studies yet; `hpo run STUDY` begins one"
    return "\n\n".join(_block(name, study) for name, study in found.items())


def _block(name: str, study: Mapping[str, Any]) -> str:
    rows = [("configuration", "trials", "reruns", "in training", f"best {study['score'].replace('_', ' ')}")]
    failures = []
    for configuration, entry in study["configurations"].items():
        trials, reruns = (f"{entry[f'{phase}_done']}/{entry[f'{phase}_total']}" for phase in ("trials", "reruns"))
        ends = [f"{entry[end]} {end}" for end in (PRUNED, NO_SCORE) if entry[end]]
        trials += f" ({', '.join(ends)})" if ends else ""
        rows.append((configuration, trials, reruns, str(entry["leased"]), best_score(entry)))
        words = failure_text(count_by_cause(entry["diverged"], entry["failures"]), entry["failed"])
        words += f"; the last exception: {entry['last_error']}" if "last_error" in entry else ""
        failures += [f"    {configuration}: {words}"] if words else []
    state = describe_state(study["state"], sum(entry["failed"] for entry in study["configurations"].values()))
    head = f"{name}: {state}{_attendance(study)}"
    return "\n".join([head, table(rows), *([f"  {MEANING}", *failures] if failures else [])])


def best_score(entry: Mapping[str, Any]) -> str:
    """The best score of a configuration's trials; none where all that were not pruned diverged."""
    finished = entry["trials_done"] + entry["reruns_done"]
    return "–" if entry["best"] is None or entry["diverged"] + entry["pruned"] >= finished else f"{entry['best']:.4g}"


def _attendance(study: Mapping[str, Any]) -> str:
    """Who is at work: nothing for a finished study."""
    if study["state"] == "done":
        return ""
    if not study["workers"]:
        return "; no worker seen in the last minute"
    places = Counter(f"{worker['host']} ({worker['device']})" for worker in study["workers"])
    total = len(study["workers"])
    words = f"; {plural(total, 'worker')}"
    if len(places) == 1:
        return f"{words} on {next(iter(places))}"
    return f"{words}: " + ", ".join(f"{count} on {place}" for place, count in places.items())


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns, two blanks in front."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
