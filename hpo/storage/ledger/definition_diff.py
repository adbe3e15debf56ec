"""What differs between two definitions, in words a person can act on."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

MISSING = object()
SHOWN = 4
CODE_SHOWN = 6
FILES = (".py", "study file", "notebook")


def describe_changes(old: Any, new: Any) -> str:
    """The first few differences as "path: old → new", joined by semicolons; "" if there is none."""
    differences = list(changes(old, new))
    epochs = next((difference[1:] for difference in differences if difference[0] == "epochs"), None)
    found = [
        f"{path}: {_show(before)} → {_show(after)}"
        for path, before, after in differences
        if path != "tuning_epochs" or (before, after) != epochs  # they follow the epochs unless they are given
    ]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def describe_code_changes(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """The first few names under which two fingerprints differ: "study file: Net, WIDTH; base.py: Blobs; loss.gamma".

    A value is left out where the statement that makes it is named.
    """
    changed = [name.rpartition(": ") for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    statements = [(where, name) for where, _, name in changed if where.endswith(FILES)]
    named = {name for _, name in statements}
    values = [(where, name) for where, _, name in changed if (where, name) not in statements and name not in named]
    shown = [*statements, *values][:CODE_SHOWN]
    files = dict.fromkeys(where for where, _ in shown if where)
    words = [f"{file}: {', '.join(name for where, name in shown if where == file)}" for file in files]
    words += [name for where, name in shown if not where]
    more = len(statements) + len(values) - len(shown)
    return "; ".join(words) + (f"; and {more} more" if more else "")


def is_in_files(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Whether two fingerprints differ in the code of a file, not in values alone."""
    return any(old.get(name) != new.get(name) for name in {*old, *new} if name.rpartition(": ")[0].endswith(FILES))


def changes(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every difference as (dotted path, old, new); what one side lacks is MISSING. Lists go by their entries' names."""
    old, new = _named(old), _named(new)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            yield from changes(old.get(key, MISSING), new.get(key, MISSING), inner)
    elif old is MISSING or new is MISSING or old != new:
        yield path, old, new


def _named(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(entry, Mapping) and "name" in entry for entry in value):
        return {entry["name"]: entry for entry in value}
    return value


def _show(value: Any) -> str:
    if value is MISSING:
        return "absent"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"
