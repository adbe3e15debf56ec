"""The summary of a study where Optuna's dashboard shows it: kept up to date, a person's own note left alone."""

import json
from contextlib import closing
from functools import partial
from hashlib import sha256

from hpo.report import Record, read_record
from hpo.report.summary import Summary, summarise
from hpo.storage.ledger import Ledger
from hpo.storage.optuna import notes
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.optuna.notes import Attributes

PAUSE = 30.0  # seconds between two summaries of a study, whoever writes them
KEY = "hpo:summary"  # of the attribute that says when the last one was begun, of what, and which note it left


def publish(ledger: Ledger, record: Record) -> None:
    """Writes the summary of `record` now, as one who has just reported does."""
    _write(ledger, summarise(record), "")  # something may have been finished since it was read: nobody can say


def refresh(ledger: Ledger, pause: float | None = None) -> bool:
    """Writes the summary anew if more is finished than it tells of and `pause` (PAUSE) seconds have gone by.

    Of several processes that see the same, one writes. One that dies meanwhile is made up for after a pause.

    Returns:
        Whether the summary tells of all there is. False: try again later.
    """
    pause = PAUSE if pause is None else pause
    present = mark(ledger)
    with closing(Mirror(ledger)) as mirror:
        told: list[bool] = []

        def claim(found: Attributes, now: float) -> Attributes:
            last = found.get(KEY) or {}
            told.append(last.get("of") == present)
            if told[-1] or 0 <= now - last.get("time", 0.0) < pause:
                return {}
            return {KEY: {**last, "time": now}}

        claimed = _change(mirror, claim)
    if claimed:
        _write(ledger, summarise(read_record(ledger)), present)
    return claimed or told[-1]


def mark(ledger: Ledger) -> str:
    """A digest of all that is finished or failed; it stays the same while work is only begun or given back."""
    counts = [{key: value for key, value in entry.items() if key != "leased"} for entry in ledger.counts().values()]
    return sha256(json.dumps(counts, sort_keys=True).encode()).hexdigest()


def _write(ledger: Ledger, summary: Summary, of: str) -> None:
    with closing(Mirror(ledger)) as mirror:
        _change(mirror, partial(_changes, summary, of))


def _changes(summary: Summary, of: str, found: Attributes, now: float) -> Attributes:
    """What has to change, given what stands there at this moment."""
    last, changes = found.get(KEY) or {}, {}
    present = notes.note(found)
    if present in ("", summary.note) or _digest(present) == last.get("note"):
        if present != summary.note:
            changes = notes.with_note(found, summary.note)
        last = {**last, "note": _digest(summary.note)}
    for identifier, drawing in summary.plots.items():
        changes |= notes.with_plot(found, identifier, drawing)
    return {**changes, KEY: {**last, "time": now, "of": of}}


def _change(mirror: Mirror, how: notes.Change) -> bool:
    return notes.change(mirror.ledger.engine, mirror.report_study(), how, lambda: mirror.storage)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
