"""The configurations of one study, with their results, in another that has the same data, model, budget and seeds."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hpo.errors import UsageError
from hpo.storage import schema
from hpo.storage.ledger import data_check
from hpo.storage.ledger.definition_diff import describe_changes, describe_code_changes, with_group_order
from hpo.storage.ledger.lease_check import lock_idle_study
from hpo.storage.ledger.planning import PLANNED, words
from hpo.storage.transactions import now, run_with_retry
from hpo.storage.whole_study import WholeStudy, insert_results

_COMPARED = ("configurations", "baseline")


def merge_into(engine: Engine, name: str, other: WholeStudy, digest: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """Adds the configurations that only `other` has to the study `name`, in one transaction; returns their names.

    A configuration that both have keeps the results of `name`. Repeating it adds nothing.

    Args:
        digest: of a definition (`hpo.study.definition.digest`).

    Raises:
        UsageError: the studies differ in more than their configurations, or workers train `name`.
    """

    def write(connection: Connection) -> list[str]:
        study = lock_idle_study(connection, name, "merged")
        row = connection.execute(sa.select(schema.studies).where(schema.studies.c.id == study)).mappings().one()
        _check(connection, dict(row), other)
        definition = row["definition"]
        known = {entry["name"] for entry in definition["configurations"]}
        entries = [entry for entry in other.study["definition"]["configurations"] if entry["name"] not in known]
        if not entries:
            return []
        insert_results(connection, study, other, entries)
        merged = {**definition, "configurations": [*definition["configurations"], *entries]}
        names = [entry["name"] for entry in entries]
        after = " after a report" if row["reported"] is not None else ""
        event = f"configurations added{after} from study {other.study['name']}: {', '.join(names)}"
        note = {"time": now(connection), "event": event, "added": names, "digest_before": row["digest"]}
        note["from"] = other.study["name"]
        values = {
            "definition": merged, "digest": digest(merged), "notes": [*row["notes"], note], "settings_assigned": [],
            "fingerprint": row["fingerprint"] | other.study["fingerprint"],
        }  # fmt: skip
        connection.execute(sa.update(schema.studies).where(schema.studies.c.id == study).values(values))
        return names

    return run_with_retry(engine, write)


def _check(connection: Connection, row: Mapping[str, Any], other: WholeStudy) -> None:
    """Raises UsageError unless the results of both may stand in one study."""
    name, other_name = row["name"], other.study["name"]
    one, two = ({key: value for key, value in part["definition"].items() if key not in _COMPARED}
                for part in (row, other.study))  # fmt: skip
    if json.dumps(one, sort_keys=True) != json.dumps(two, sort_keys=True):
        raise UsageError(
            f"studies {name!r} and {other_name!r} differ in more than their configurations "
            f"({describe_changes(one, two)}), so their results cannot be compared in one study"
        )
    for key, flag in PLANNED.items():
        if row[key] != other.study[key]:
            raise UsageError(
                f"study {name!r} has {row[key]} {words(flag)} and {other_name!r} {other.study[key]}; raise the lower "
                f"number by `hpo run … {flag} {max(row[key], other.study[key])}` first"
            )
    entries = {entry["name"]: entry for entry in row["definition"]["configurations"]}
    for entry in other.study["definition"]["configurations"]:
        if (mine := entries.get(entry["name"])) is not None and (changes := describe_changes(_own(mine), _own(entry))):
            raise UsageError(f"configuration {entry['name']!r} differs between the two studies ({changes}); rename one")
    shared = row["fingerprint"].keys() & other.study["fingerprint"].keys()
    codes = [{key: part["fingerprint"][key] for key in shared} for part in (row, other.study)]
    if codes[0] != codes[1]:
        raise UsageError(
            f"studies {name!r} and {other_name!r} use different code ({describe_code_changes(*codes)}), so their "
            "results cannot be compared in one study"
        )
    data_check.check_same_data(connection, row["id"], other.workers)


def _own(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what it is compared with."""
    own = {key: value for key, value in entry.items() if key not in ("against", "prediction")}
    return with_group_order(own)
