"""The differences between two definitions, or two fingerprints, in words."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hpo.trials import group_order

MISSING = object()
SHOWN = 4
CODE_SHOWN = 6
FILES = (".py", "study file", "notebook")


def describe_changes(old: Any, new: Any) -> str:
    """The first few differences as "path: old → new", joined by semicolons; "" if there is none."""
    differences = list(changes(old, new))
    epochs = next((difference[1:] for difference in differences if difference[0] == "epochs"), None)
    texts = [
        f"{path}: {_show(before)} → {_show(after)}"
        for path, before, after in differences
        if path != "tuning_epochs" or (before, after) != epochs  # they follow the epochs by default
    ]
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more


def same_definition(old: Any, new: Any) -> bool:
    """Whether two definitions are equal; the order of their configurations and hyperparameters does not count."""
    return next(changes(old, new), None) is None


def describe_code_changes(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """The first few names whose digests differ: "study file: Net, WIDTH; base.py: Blobs; loss.gamma".

    A value is left out if the statement that assigns it is named.
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
    """Whether two fingerprints differ in the code of a file, not only in values."""
    return any(old.get(name) != new.get(name) for name in {*old, *new} if name.rpartition(": ")[0].endswith(FILES))


def changes(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every difference as (dotted path, old, new), with MISSING for a missing side; configurations match by name."""
    if path == "configurations":
        old, new = _by_name(old), _by_name(new)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            yield from changes(old.get(key, MISSING), new.get(key, MISSING), inner)
    elif old is MISSING or new is MISSING or _canonical(old) != _canonical(new):
        yield path, old, new


def _by_name(configurations: Any) -> Any:
    if configurations is MISSING:
        return configurations
    return {entry["name"]: with_group_order(entry) for entry in configurations}


def with_group_order(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the order of its parameter groups where it counts, as the order of keys does not."""
    order = group_order(entry)
    return {**entry, **({"order of groups": order} if order else {})}


def _canonical(value: Any) -> str:
    """As in the digest of a definition, where 1 and 1.0 differ."""
    return json.dumps(value, sort_keys=True, default=str)


def _show(value: Any) -> str:
    if value is MISSING:
        return "absent"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"
