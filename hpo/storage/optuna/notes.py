"""A study's note and its own plots, as optuna-dashboard keeps them in the system attributes of an Optuna study.

`optuna_dashboard.save_note` writes the same, but one attribute a transaction, and takes seconds to import.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy.engine import Connection, Engine

from hpo.storage import bulk_sql
from hpo.storage.database import now, run_with_retry
from hpo.storage.optuna import tables

LONGEST = 2045  # characters of an attribute; what is longer goes on in the next
VERSION_KEY = "dashboard:note_ver"
TEXT_KEY = "dashboard:note_str:"
PLOT_KEY = "dashboard:plot_data:"

Attributes = dict[str, Any]  # of a study, by key; None in a change takes an attribute away
Change = Callable[[Attributes, float], Mapping[str, Any]]

_metadata = sa.MetaData()
_studies = sa.Table("studies", _metadata, sa.Column("study_id", sa.Integer))
_attributes = sa.Table(
    "study_system_attributes",
    _metadata,
    sa.Column("study_id", sa.Integer),
    sa.Column("key", sa.String(512)),
    sa.Column("value_json", sa.Text),
)


def note(found: Attributes) -> str:
    """The note of a study with these attributes, in Markdown; empty where there is none."""
    return "".join(found[key] or "" for key in _parts(found, TEXT_KEY))


def with_note(found: Attributes, text: str) -> Attributes:
    """The changes that make `text` the note; its number is raised, so that open pages show it."""
    return _chunks(found, TEXT_KEY, text) | {VERSION_KEY: int(found.get(VERSION_KEY) or 0) + 1}


def with_plot(found: Attributes, identifier: str, drawing: Mapping[str, Any] | None) -> Attributes:
    """The changes that make `drawing` (data and layout for plotly.js) a plot of the study, or take it away.

    Args:
        identifier: letters, digits, hyphens, underscores, colons and periods; a plot of that name is replaced.
    """
    text = "" if drawing is None else json.dumps(drawing, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _chunks(found, f"{PLOT_KEY}{identifier}:", text)


def change(engine: Engine, study: int, how: Change, storage: Callable[[], RDBStorage]) -> bool:
    """Changes the system attributes of an Optuna study in one transaction.

    Args:
        how: given all attributes and the database's time, returns those to set; None takes one away.
        storage: gives Optuna's own storage, which is used one attribute at a time where its tables are unknown.

    Returns:
        Whether anything was to be changed.

    Raises:
        KeyError: the study was deleted.
    """
    if tables.version(engine) == tables.VERSION:
        return run_with_retry(engine, lambda connection: _change(connection, study, how))
    opened = storage()
    wanted = how(opened.get_study_system_attrs(study), time.time())
    for key, value in wanted.items():
        opened.set_study_system_attr(study, key, "" if value is None else value)
    return bool(wanted)


def _change(connection: Connection, study: int, how: Change) -> bool:
    row = sa.select(_studies.c.study_id).where(_studies.c.study_id == study).with_for_update()
    if connection.scalar(row) is None:
        raise KeyError(study)
    mine = _attributes.c.study_id == study
    rows = connection.execute(sa.select(_attributes.c.key, _attributes.c.value_json).where(mine))
    wanted = how({key: json.loads(text) for key, text in rows}, now(connection))
    if wanted:
        connection.execute(sa.delete(_attributes).where(mine, _attributes.c.key.in_(list(wanted))))
        kept = [(key, value) for key, value in wanted.items() if value is not None]
        bulk_sql.insert(
            connection,
            _attributes,
            [{"study_id": study, "key": key, "value_json": json.dumps(value)} for key, value in kept],
        )
    return bool(wanted)


def _chunks(found: Attributes, prefix: str, text: str) -> Attributes:
    """Only what differs, and None for the parts that a longer text had."""
    parts = range(0, len(text), LONGEST)
    new: Attributes = {f"{prefix}{place}": text[first : first + LONGEST] for place, first in enumerate(parts)}
    old = dict.fromkeys(_parts(found, prefix))
    return {key: value for key, value in (old | new).items() if value is None or found.get(key) != value}


def _parts(found: Attributes, prefix: str) -> list[str]:
    numbers = [int(key.removeprefix(prefix)) for key in found if key.startswith(prefix)]
    return [f"{prefix}{number}" for number in sorted(numbers)]
