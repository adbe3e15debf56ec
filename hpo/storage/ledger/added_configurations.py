"""Configurations that are added to a study that exists: same data, model, budget and seeds, tuned the same way."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

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
