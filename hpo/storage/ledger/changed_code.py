"""Refuses or accepts a study whose code has changed since its first results.

Under the key `CODE`, the text of a study holds what `hpo.study.code_users` returns, and as "replaced" the entries of
fingerprints that were replaced without a warning, so that workers with that code take no more work.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.errors import UsageError
from hpo.storage.ledger.added_configurations import keeps_code
from hpo.storage.ledger.definition_diff import describe_code_changes, is_in_files
from hpo.storage.schema import slots, studies

CODE = "code"


def concerned(row: Any, fingerprint: Mapping[str, str], code: Mapping[str, Any]) -> list[str] | None:
    """The configurations that can use the code that changed, before or after the change; None if that may be all.

    Args:
        fingerprint, code: of the changed code, as `row` has them from before; `code` is the text under the key `CODE`.
    """
    codes = (row.text.get(CODE, {}), code)
    sides = [dict(row.fingerprint), dict(fingerprint)]
    if all(each.get("imports") for each in codes):  # one by one instead of one digest of all
        sides = [
            {name: digest for name, digest in side.items() if not name.endswith(": imports")} | each["imports"]
            for side, each in zip(sides, codes, strict=True)
        ]
    names: set[str] = set()
    for entry in {*sides[0], *sides[1]}:
        if sides[0].get(entry) == sides[1].get(entry):
            continue
        for side, each in zip(sides, codes, strict=True):
            if entry in side and entry not in each.get("users", {}):
                return None
            names.update(each["users"][entry] if entry in side else ())
    return sorted(names)


def check_results(
    connection: Connection, row: Any, fingerprint: Mapping[str, str], accepted: bool, configurations: list[str] | None
) -> list[str]:
    """A warning if something was trained, or is being trained, with the code before this change.

    Args:
        configurations: those that the change concerns; None: all.

    Raises:
        UsageError: there is such a run, and results of both codes in one study are not accepted.
    """
    query = sa.select(slots.c.state).where(slots.c.study_id == row.id, slots.c.state.in_(("done", "leased")))
    if configurations is not None:
        query = query.where(slots.c.configuration.in_(configurations))
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


def replaced(row: Any, fingerprint: Mapping[str, str], warned: bool) -> list[str]:
    """Entries with digests that no worker may have once a study with `row` has this fingerprint.

    Args:
        warned: results of both codes were accepted, so that workers with the earlier one may continue.
    """
    entries = {*row.fingerprint, *fingerprint}
    earlier = {_entry(row.fingerprint, name) for name in entries} if not warned else set()
    known = row.text.get(CODE, {}).get("replaced", [])
    return sorted({*known, *earlier} - {_entry(fingerprint, name) for name in entries})


def _entry(fingerprint: Mapping[str, str], name: str) -> str:
    """An entry with its digest, "" where the fingerprint lacks it."""
    return f"{name} {fingerprint.get(name, '')}"


def check_opened(
    connection: Connection, study: int, name: str, fingerprint: Mapping[str, str], digest: str, training: bool
) -> None:
    """Raises UsageError if the study was opened with other code after this worker opened it.

    Code that only configurations use that were added meanwhile is no other code. A worker that is `training` already
    may continue where the results of both codes were accepted, and not where its code was corrected.
    """
    query = sa.select(studies.c.fingerprint, studies.c.digest, studies.c.text).where(studies.c.id == study)
    row = connection.execute(query).first()
    if row is None:
        return
    stored = row.fingerprint
    replaced = row.text.get(CODE, {}).get("replaced", [])
    if training and not any(entry == _entry(fingerprint, entry.rpartition(" ")[0]) for entry in replaced):
        return
    if stored != fingerprint and (row.digest == digest or not keeps_code(fingerprint, stored)):
        changes = describe_code_changes(stored, fingerprint)
        raise UsageError(
            f"study {name!r} was opened with other code ({changes}) while this worker started; run all workers with "
            "the same code, or give this one another --name"
        )
