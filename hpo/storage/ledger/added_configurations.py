"""Configurations that are added to a study that exists: same data, model, budget and seeds, tuned the same way."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.errors import UsageError
from hpo.storage.ledger.definition_diff import same_definition
from hpo.storage.ledger.planning import PLANNED, add_slots
from hpo.storage.schema import studies
from hpo.storage.transactions import now


def find_added(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The configurations that `new` has besides those of `old`; empty if anything else differs as well."""
    known = {entry["name"] for entry in old["configurations"]}
    kept = [entry for entry in new["configurations"] if entry["name"] in known]
    if not same_definition(old, {**new, "configurations": kept}):
        return []
    return [entry["name"] for entry in new["configurations"] if entry["name"] not in known]


def check_none_is_missing(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises UsageError if a file's definition lacks configurations of the study and otherwise agrees with it."""
    known, given = ([entry["name"] for entry in part["configurations"]] for part in (old, new))
    missing = [entry for entry in known if entry not in given]
    common = [
        {**part, "configurations": [each for each in part["configurations"] if each["name"] in {*known} & {*given}]}
        for part in (old, new)
    ]
    if missing and same_definition(*common):
        lacking = f"configuration{'' if len(missing) == 1 else 's'} {', '.join(missing)}"
        raise UsageError(
            f"study {name!r} has {lacking}, which its file lacks, and only configurations can be added to a study; add "
            f"{lacking} to the study file, or give this one another --name"
        )


def order_note(connection: Connection, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The note to store if `new` has the configurations of `old` in another order; their settings stay as they are."""
    before = [entry["name"] for entry in old["configurations"]]
    after = [entry["name"] for entry in new["configurations"] if entry["name"] in before]
    if before == after:
        return []
    event = f"order of the configurations changed to {', '.join(after)}"
    return [{"time": now(connection), "event": event, "order": [before, after]}]


def keeps_code(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Whether a fingerprint has every entry of an earlier one, as code that only added configurations use leaves it."""
    return old.items() <= new.items()


def add_configurations(
    connection: Connection, row: Any, definition: Mapping[str, Any], digest: str, names: Sequence[str]
) -> dict[str, Any]:
    """Stores the definition with the slots of the configurations `names`; returns the note to store.

    Their reruns have the seeds of the others, in the same tuning runs. Settings that reruns have stay as they are.
    """
    entries = [entry for entry in definition["configurations"] if entry["name"] in names]
    planned = {key: getattr(row, key) for key in PLANNED}
    add_slots(connection, row.id, {**definition, "configurations": entries}, dict.fromkeys(PLANNED, 0), planned)
    values = {"definition": dict(definition), "digest": digest}
    connection.execute(sa.update(studies).where(studies.c.id == row.id).values(values))
    noun = "configuration" if len(names) == 1 else "configurations"
    when = " after a report" if row.reported is not None else ""
    event = f"{noun} added{when}: {', '.join(names)}"
    return {"time": now(connection), "event": event, "added": list(names), "digest_before": row.digest}


def digests_by_configuration(row: Any) -> dict[str, str]:
    """Configuration → digest of the first definition that contains it, which seeds the sampling of its settings.

    A configuration is sampled the same way by workers that opened the study before and after others were added.
    """
    additions = [note for note in row.notes if "added" in note]
    digests = [*(note["digest_before"] for note in additions), row.digest]
    added_in = {name: number for number, note in enumerate(additions, start=1) for name in note["added"]}
    return {entry["name"]: digests[added_in.get(entry["name"], 0)] for entry in row.definition["configurations"]}
