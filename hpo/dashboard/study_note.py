"""A study's summary in Optuna's dashboard: kept up to date, except that a note which a person edited stays."""

import json
from hashlib import sha256

from hpo.analysis.results import StudyNumbers
from hpo.report import Record, read_record
from hpo.report.summary import Summary, summarise
from hpo.storage.ledger import Ledger
from hpo.storage.optuna import notes
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.optuna.notes import Attributes

PAUSE = 30.0  # seconds between two summaries of a study, from all processes together
# The attribute of the last summary: when it was started, the digest of its results, its verdicts as plain text, and the
# digest of its note.
KEY = "hpo:summary"


def publish(ledger: Ledger, record: Record, numbers: StudyNumbers | None = None) -> None:
    """Writes the summary of `record` now, as `hpo report` does; `numbers` are its numbers, if they are known."""
    _write(ledger, summarise(record, numbers), "")  # more runs may have finished since the record was read


def refresh(ledger: Ledger, pause: float | None = None) -> bool:
    """Writes the summary again if there are new results and `pause` (PAUSE) seconds have passed since the last one.

    One process writes where several see the same results. If it dies meanwhile, another one writes after a pause.

    Returns:
        Whether the summary is up to date; if not, try again later.
    """
    pause = PAUSE if pause is None else pause
    digest, up_to_date = results_digest(ledger), False

    def claim(attributes: Attributes, now: float) -> Attributes:
        nonlocal up_to_date
        last = attributes.get(KEY) or {}
        up_to_date = last.get("results") == digest and "verdicts" in last
        waits = 0 <= now - last.get("time", 0.0) < pause
        return {} if up_to_date or waits else {KEY: {**last, "time": now}}

    if _change(ledger, claim):
        _write(ledger, summarise(read_record(ledger)), digest)
        return True
    return up_to_date


def results_digest(ledger: Ledger) -> str:
    """A digest of all finished and failed runs; leasing and releasing runs does not change it."""
    counts = [{key: value for key, value in entry.items() if key != "leased"} for entry in ledger.counts().values()]
    return _digest(json.dumps(counts, sort_keys=True))


def _write(ledger: Ledger, summary: Summary, digest: str) -> None:
    def update(attributes: Attributes, now: float) -> Attributes:
        last, changes = attributes.get(KEY) or {}, {}
        note = notes.note(attributes)
        if note in ("", summary.note) or _digest(note) == last.get("note"):  # else a person edited it
            if note != summary.note:
                changes = notes.with_note(attributes, summary.note)
            last = {**last, "note": _digest(summary.note)}
        for identifier, drawing in summary.plots.items():
            changes |= notes.with_plot(attributes, identifier, drawing)
        return {**changes, KEY: {**last, "time": now, "results": digest, "verdicts": summary.verdicts}}

    _change(ledger, update)


def _change(ledger: Ledger, change: notes.Change) -> bool:
    return notes.change(ledger.engine, Mirror(ledger).report_study(), change)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
