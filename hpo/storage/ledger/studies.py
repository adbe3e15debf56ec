"""Creating, opening, finding and deleting the studies of a database."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hpo.errors import UsageError, did_you_mean
from hpo.storage.ledger import changed_code
from hpo.storage.ledger.added_configurations import (
    add_configurations,
    check_none_is_missing,
    find_added,
    keeps_code,
    order_note,
)
from hpo.storage.ledger.definition_diff import describe_changes, same_definition
from hpo.storage.ledger.ledger import Ledger
from hpo.storage.ledger.planning import PLANNED, add_slots, raise_planned
from hpo.storage.ledger.retries import reopen
from hpo.storage.schema import studies
from hpo.storage.transactions import lock_table, now, run_with_retry


def open_study(
    engine: Engine,
    name: str,
    definition: Mapping[str, Any],
    digest: str,
    planned: Mapping[str, int],
    text: Mapping[str, Any],
    fingerprint: Mapping[str, str],
    raised: Collection[str] = tuple(PLANNED),
    accept_changed_code: bool = False,
) -> Ledger:
    """Opens the study `name`, or creates it with all its slots in one transaction.

    Args:
        definition, digest: of the study (`definition.describe`); it must equal the stored definition, or have further
            configurations, which are then added. Their order may change; the digest, which seeds the sampling of
            settings, stays that of the first order, so that the new order in an empty database gives other settings.
            The order of hyperparameters may change as well; samplers continue with the first one.
        planned: "trials", "seeds", "tuning_runs". raised: those of them that an existing study takes over; they may
            only be raised.
        text: free text, which is updated, and the users of the code (`changed_code.CODE`). fingerprint: digests of the
            user's code by names.
        accept_changed_code: continue if stored results may have used code that has changed; the change is noted and
            in `warnings`. Configurations that failed with it are tried again.

    Raises:
        UsageError: the definition or the code differs, or a planned number is lower than before.
    """
    columns = {"definition": dict(definition), "text": dict(text), "fingerprint": dict(fingerprint)}

    def write(connection: Connection) -> tuple[Any, list[str]]:
        lock_table(connection, studies)
        row = find(connection, name)
        if row is None:
            return _create(connection, {"name": name, "digest": digest, **columns}, planned), []
        check_none_is_missing(name, row.definition, definition)
        added = find_added(row.definition, definition)
        if not added and not same_definition(row.definition, definition):
            raise UsageError(
                f"study {name!r} exists with another definition ({describe_changes(row.definition, definition)}), and "
                "only configurations can be added to it; give this one another --name, or start from scratch with "
                "--fresh, which deletes the old results"
            )
        new_numbers = {key: planned[key] for key in raised if key in planned}
        return _update(connection, row, {"digest": digest, **columns}, new_numbers, accept_changed_code, added)

    row, warnings = run_with_retry(engine, write)
    return Ledger(engine, row, warnings)


def load_study(engine: Engine, name: str) -> Ledger:
    """A study of the database.

    Raises:
        UsageError: there is no study of this name; the message suggests a similar one.
    """
    row = run_with_retry(engine, lambda connection: find(connection, name))
    if row is None:
        known = names(engine)
        existing, hint = ", ".join(known) or "none yet", did_you_mean(name, known)
        raise UsageError(f"there is no study {name!r} in this database; studies are: {existing}{hint}")
    return Ledger(engine, row)


def names(engine: Engine) -> list[str]:
    """All studies of this database, in alphabetical order."""
    query = sa.select(studies.c.name).order_by("name")
    return run_with_retry(engine, lambda connection: list(connection.scalars(query)))


def find(connection: Connection, name: str) -> Any | None:
    return connection.execute(sa.select(studies).where(studies.c.name == name)).one_or_none()


def _create(connection: Connection, columns: Mapping[str, Any], planned: Mapping[str, int]) -> Any:
    numbers = {key: planned.get(key, 1) for key in PLANNED}
    values = {**columns, **numbers, "created": now(connection), "notes": [], "settings_assigned": []}
    connection.execute(sa.insert(studies).values(values))
    row = find(connection, columns["name"])
    assert row is not None
    add_slots(connection, row.id, columns["definition"], dict.fromkeys(PLANNED, 0), numbers)
    return row


def _update(
    connection: Connection,
    row: Any,
    columns: Mapping[str, Any],
    planned: Mapping[str, int],
    accept_changed_code: bool,
    added: Sequence[str],
) -> tuple[Any, list[str]]:
    notes, warnings = list(row.notes), []
    # Samplers go by the order of a space, so that a known configuration keeps the one that it began with.
    known = {entry["name"]: entry for entry in row.definition["configurations"]}
    entries = [known.get(entry["name"], entry) for entry in columns["definition"]["configurations"]]
    definition = {**columns["definition"], "configurations": entries}
    replaced = row.text.get(changed_code.CODE, {}).get("replaced", [])
    only_added = added and keeps_code(row.fingerprint, columns["fingerprint"])
    if columns["fingerprint"] != row.fingerprint and not only_added:
        fingerprint = columns["fingerprint"]
        concerned = changed_code.concerned(row, fingerprint, columns["text"].get(changed_code.CODE, {}))
        warnings += changed_code.check_results(connection, row, fingerprint, accept_changed_code, concerned)
        notes += [{"time": now(connection), "event": event} for event in warnings]
        reopen(connection, row.id, "exception", concerned)
        replaced = changed_code.replaced(row, fingerprint, bool(warnings))
    notes += order_note(connection, row.definition, definition)
    if added:
        notes.append(add_configurations(connection, row, definition, columns["digest"], added))
    notes += raise_planned(connection, row, definition, planned)
    code = {**columns["text"].get(changed_code.CODE, {}), **({"replaced": replaced} if replaced else {})}
    text = {**columns["text"], **({changed_code.CODE: code} if code else {})}
    values = {"definition": definition, "fingerprint": columns["fingerprint"], "text": text, "notes": notes}
    connection.execute(sa.update(studies).where(studies.c.id == row.id).values(values))
    return find(connection, row.name), warnings
