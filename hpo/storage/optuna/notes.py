"""A study's note and plots, as optuna-dashboard keeps them in the system attributes of an Optuna study.

`optuna_dashboard.save_note` writes the same, but one attribute a transaction, and takes seconds to import.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hpo.storage import bulk_sql
from hpo.storage.optuna.schema import studies, system_attributes
from hpo.storage.transactions import now, run_with_retry

MAX_LENGTH = 2045  # characters of an attribute; a longer text continues in the next one
VERSION_KEY = "dashboard:note_ver"
TEXT_KEY = "dashboard:note_str:"
PLOT_KEY = "dashboard:plot_data:"

Attributes = dict[str, Any]  # of a study, by key; in a change, None deletes an attribute
Change = Callable[[Attributes, float], Mapping[str, Any]]


def note(attributes: Attributes) -> str:
    """The note of a study with these attributes, in Markdown; empty if there is none."""
    return "".join(attributes[key] or "" for key in _chunk_keys(attributes, TEXT_KEY))


def with_note(attributes: Attributes, text: str) -> Attributes:
    """The changes that make `text` the note; its version is raised, so that open pages show it."""
    return _chunks(attributes, TEXT_KEY, text) | {VERSION_KEY: int(attributes.get(VERSION_KEY) or 0) + 1}


def with_plot(attributes: Attributes, identifier: str, plot: Mapping[str, Any] | None) -> Attributes:
    """The changes that make `plot` (data and layout for plotly.js) a plot of the study, or delete it.

    Args:
        identifier: letters, digits, hyphens, underscores, colons and periods; a plot of that name is replaced.
    """
    text = "" if plot is None else json.dumps(plot, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _chunks(attributes, f"{PLOT_KEY}{identifier}:", text)


def change(engine: Engine, study: int, compute_changes: Change) -> bool:
    """Changes the system attributes of an Optuna study in one transaction.

    Args:
        compute_changes: takes all attributes and the database's time, returns those to set; None deletes one.

    Returns:
        Whether there was anything to change.

    Raises:
        KeyError: the study was deleted.
    """

    def write(connection: Connection) -> bool:
        row = sa.select(studies.c.study_id).where(studies.c.study_id == study).with_for_update()
        if connection.scalar(row) is None:
            raise KeyError(study)
        of_study = system_attributes.c.study_id == study
        rows = connection.execute(sa.select(system_attributes.c.key, system_attributes.c.value_json).where(of_study))
        changes = compute_changes({key: json.loads(text) for key, text in rows}, now(connection))
        if changes:
            connection.execute(sa.delete(system_attributes).where(of_study, system_attributes.c.key.in_(list(changes))))
            bulk_sql.insert(connection, system_attributes, [
                {"study_id": study, "key": key, "value_json": json.dumps(value)}
                for key, value in changes.items()
                if value is not None
            ])  # fmt: skip
        return bool(changes)

    return run_with_retry(engine, write)


def _chunks(attributes: Attributes, prefix: str, text: str) -> Attributes:
    """Only the chunks that differ, and None for those that only a longer text had."""
    starts = range(0, len(text), MAX_LENGTH)
    new: Attributes = {f"{prefix}{number}": text[start : start + MAX_LENGTH] for number, start in enumerate(starts)}
    old = dict.fromkeys(_chunk_keys(attributes, prefix))
    return {key: value for key, value in (old | new).items() if value is None or attributes.get(key) != value}


def _chunk_keys(attributes: Attributes, prefix: str) -> list[str]:
    numbers = [int(key.removeprefix(prefix)) for key in attributes if key.startswith(prefix)]
    return [f"{prefix}{number}" for number in sorted(numbers)]
