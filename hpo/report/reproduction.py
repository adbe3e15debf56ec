"""What the section Reproduce says of a study that was changed after its first run."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from hpo.output import visible
from hpo.report.wording import escape, listed


def steps(study: Mapping[str, Any]) -> list[str]:
    """What to do one after another to get the study in an empty database, in Markdown; empty if its command is enough.

    The settings that are tried follow from the definition and the planned numbers of the moment when they were planned.
    """
    changes = [note for note in study.get("notes") or [] if note.keys() & {"added", "order", "raised"}]
    return [_first(study, changes), *(words for note in changes for words in _step(note, study))] if changes else []


def _first(study: Mapping[str, Any], changes: list[Mapping[str, Any]]) -> str:
    """How the study was when it was first run."""
    added = {name for note in changes for name in note.get("added", ())}
    orders = [note["order"][0] for note in changes if "order" in note]
    names = orders[0] if orders else [entry["name"] for entry in study["definition"]["configurations"]]
    numbers: dict[str, int] = {}
    for note in changes:
        for flag, (before, _) in note.get("raised", {}).items():
            numbers.setdefault(flag, before)
    flags = " ".join(f"{flag} {number}" for flag, number in numbers.items())
    only = listed([escape(name) for name in names if name not in added])
    return f"run it with the configurations {only}, in this order" + (f", and with `{flags}`" if flags else "")


def _step(note: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[str]:
    if "added" in note and "from" in note:
        command = visible(shlex.join(["hpo", "merge", study["name"], note["from"]]))
        yield f"run study {escape(note['from'])}, and add {_names(note['added'])} by `{command}`"
    elif "added" in note:
        yield f"add {_names(note['added'])} to the study file and run it again"
    elif "order" in note:
        yield f"put the configurations in the order {', '.join(map(escape, note['order'][1]))} and run it again"
    else:
        yield from (f"run it again with `{flag} {after}`" for flag, (_, after) in note["raised"].items())


def _names(names: list[str]) -> str:
    return listed([escape(name) for name in names])
