"""Runs that several studies have in common, because one was copied or merged from another."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from hpo.analysis.record import Record
from hpo.analysis.selection import newest_reruns

Runs = frozenset[str]


class SameRuns(NamedTuple):
    """A configuration whose reruns are the same in several studies: equal settings, values and seeds."""

    name: str
    studies: list[str]


def same_runs(records: Sequence[Record], same_data: Sequence[Sequence[str]]) -> list[SameRuns]:
    """The configurations that studies share with their runs.

    Args:
        same_data: groups of studies with the same data and seeds; only these are compared.
    """
    found = []
    for group in same_data:
        members = [record for record in records if record.study["name"] in group]
        names = [entry["name"] for record in members for entry in record.study["definition"]["configurations"]]
        for name in dict.fromkeys(names):
            found += [SameRuns(name, studies) for studies in _groups(members, name) if len(studies) > 1]
    return found


def _groups(records: Sequence[Record], name: str) -> list[list[str]]:
    """The studies in groups with the same runs; one that has fewer of them than the first belongs to it, too."""
    groups: list[tuple[Runs, list[str]]] = []
    for record in records:
        runs = _runs(record, name)
        if not runs:
            continue
        same = next((studies for first, studies in groups if runs <= first or first <= runs), None)
        if same is not None:
            same.append(record.study["name"])
        else:
            groups.append((runs, [record.study["name"]]))
    return [studies for _, studies in groups]


def _runs(record: Record, name: str) -> Runs:
    done = (row for row in newest_reruns(record, name) if row["state"] == "done")
    return frozenset(json.dumps(_run(row), sort_keys=True) for row in done)


def _run(row: dict[str, Any]) -> list[Any]:
    return [row["seed"], row["setting"], row["value"]]
