"""Refuses or accepts a study whose code has changed since its first results."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.errors import UsageError
from hpo.storage.ledger.added_configurations import keeps_code
from hpo.storage.ledger.definition_diff import describe_code_changes, is_in_files
from hpo.storage.schema import slots, studies


def check_results(connection: Connection, row: Any, fingerprint: Mapping[str, str], accepted: bool) -> list[str]:
    """A warning if something was trained, or is being trained, with the code before this change.

    Raises:
        UsageError: there is such a run, and results of both codes in one study are not accepted.
    """
    query = sa.select(slots.c.state).where(slots.c.study_id == row.id, slots.c.state.in_(("done", "leased")))
    states = set(connection.scalars(query.distinct()))
    if not states:
        return []
    before = row.fingerprint
    changes = describe_code_changes(before, fingerprint)
    if accepted:
        runs = "earlier results used" if "done" in states else "runs in training use"
        return [f"the code changed since the last run ({changes}), which was accepted; {runs} the old code"]
    ways = "give this one another --name, start from scratch with --fresh, or continue with --accept-changed-code"
    subject, undo = "the code", "undo that"
    if not is_in_files(before, fingerprint):
        subject, undo = "a value in the code", "undo that, give it a seed if it is random"
    raise UsageError(
        f"{subject} of study {row.name!r} changed since its first trials ({changes}); {undo}, {ways}, which puts "
        "results of the old and the new code into one study"
    )


def check_opened(connection: Connection, study: int, name: str, fingerprint: Mapping[str, str], digest: str) -> None:
    """Raises UsageError if the study was opened with other code after this worker opened it, before any training.

    Code that only configurations use that were added meanwhile is no other code.
    """
    row = connection.execute(sa.select(studies.c.fingerprint, studies.c.digest).where(studies.c.id == study)).first()
    if row is None:
        return
    stored = row.fingerprint
    if stored != fingerprint and (row.digest == digest or not keeps_code(fingerprint, stored)):
        changes = describe_code_changes(stored, fingerprint)
        raise UsageError(
            f"study {name!r} was opened with other code ({changes}) while this worker started; run all workers with "
            "the same code, or give this one another --name"
        )
