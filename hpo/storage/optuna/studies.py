"""The Optuna studies that show a study of the ledger: their names, and how they are created and deleted."""

import atexit
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy.engine import Connection, Engine

from hpo.errors import HpoError, UsageError
from hpo.storage import schema as ledger_schema
from hpo.storage.connections import configure_connections, engine_options
from hpo.storage.database import is_read_only
from hpo.storage.ledger import Ledger, names
from hpo.storage.ledger.deletion import delete_rows
from hpo.storage.ledger.lease_check import lock_idle_study
from hpo.storage.locks import creation_lock
from hpo.storage.optuna import schema
from hpo.storage.transactions import retry, run_with_retry
from hpo.tasks import direction_of_metric, task_of

optuna.logging.set_verbosity(optuna.logging.WARNING)

STUDY_ID = "hpo_study"  # user attribute of an Optuna study: the id in the ledger of the study that it shows


def study_name(study: str, configuration: str, phase: str, tuning_run: int = 0) -> str:
    """STUDY/CONFIGURATION/tune or …/rerun, followed by /r2 for the second tuning run."""
    return f"{study}/{configuration}/{phase}" + (f"/r{tuning_run + 1}" if tuning_run else "")


def report_name(study: str) -> str:
    """The Optuna study without trials whose note and plots summarise `study`."""
    return f"{study}/report"


def open_storage(engine: Engine, reading: bool = False) -> RDBStorage:
    """Optuna's storage in the database of `engine` (from `database.connect`), with the same pragmas.

    Args:
        reading: it is read-only once it is open. If `engine` is read-only, nothing is created either.

    Raises:
        HpoError: Optuna's tables are missing and cannot be created, or have another version.
    """
    create_tables(engine)
    url = engine.url.render_as_string(hide_password=False)
    escaped = url.replace("{", "{{").replace("}", "}}")  # RDBStorage takes the URL for a template

    def configure(optunas: Engine) -> None:
        configure_connections(optunas, reading, None if reading else engine)

    options = engine_options(engine.url, is_read_only(engine)) | {"plugins": ["hpo"], "configure": configure}
    storage = retry(lambda: _open(escaped, options))
    atexit.register(storage.engine.dispose)
    return storage


def create_tables(engine: Engine) -> None:
    """Creates Optuna's tables where there are none.

    Raises:
        HpoError: they have another version than hpo can write, or are missing and `engine` is read-only.
    """
    if schema.read_version(engine) is None:
        if is_read_only(engine):
            raise HpoError("this database has no Optuna studies yet, and they cannot be created: it is read-only here")
        with creation_lock(engine):
            if schema.read_version(engine) is None:
                run_with_retry(engine, schema.create)
    if (version := schema.read_version(engine)) != schema.VERSION:
        raise HpoError(
            f"Optuna's tables in this database have version {version} and hpo writes version {schema.VERSION}; "
            "upgrade older ones by `optuna storage upgrade`, or give another --storage"
        )


def delete_study(engine: Engine, name: str) -> None:
    """Deletes a study with all its results, and the Optuna studies that show it.

    Those are deleted first and looked for once more: whatever ends this process, the study is whole or deleted.

    Raises:
        UsageError: workers are training it.
    """
    if name in names(engine):
        run_with_retry(engine, lambda connection: lock_idle_study(connection, name, "deleted"))
        _delete_shown(engine, name)
        run_with_retry(engine, lambda connection: delete_rows(connection, lock_idle_study(connection, name, "deleted")))
    _delete_shown(engine, name)


def rename_study(engine: Engine, name: str, new: str, rename_command: Callable[[str], str]) -> None:
    """Renames a study and the Optuna studies that show it, in one transaction.

    Args:
        rename_command: gives the command line of the renamed study.

    Raises:
        UsageError: there is no such study, workers are training it, or the new name is taken.
    """
    create_tables(engine)

    def write(connection: Connection) -> None:
        study = lock_idle_study(connection, name, "renamed")
        ledgers = ledger_schema.studies
        if connection.scalar(sa.select(ledgers.c.id).where(ledgers.c.name == new)) is not None:
            raise UsageError(f"the database has a study {new!r} already; delete or rename that one first")
        text = connection.scalar(sa.select(ledgers.c.text).where(ledgers.c.id == study)) or {}
        values = {"name": new, "text": {**text, "command": rename_command(str(text.get("command", "")))}}
        connection.execute(sa.update(ledgers).where(ledgers.c.id == study).values(values))
        shown, attributes = schema.studies, schema.study_attributes
        query = sa.select(shown.c.study_id, shown.c.study_name).join(
            attributes, attributes.c.study_id == shown.c.study_id
        )
        query = query.where(attributes.c.key == STUDY_ID, attributes.c.value_json == json.dumps(study))
        for shown_id, shown_name in connection.execute(query).all():
            renamed = f"{new}/{shown_name.removeprefix(f'{name}/')}"
            # What was left over from a deleted study of that name gets out of the way.
            for left in connection.scalars(sa.select(shown.c.study_id).where(shown.c.study_name == renamed)).all():
                spare = f"{renamed} (left over {left})"
                connection.execute(sa.update(shown).where(shown.c.study_id == left).values(study_name=spare))
            connection.execute(sa.update(shown).where(shown.c.study_id == shown_id).values(study_name=renamed))

    run_with_retry(engine, write)


def _delete_shown(engine: Engine, name: str) -> None:
    with _opened(engine) as storage, creation_lock(engine):  # Optuna fails where two processes delete the same study
        for study in storage.get_all_studies():
            if study.study_name.startswith(f"{name}/") and STUDY_ID in study.user_attrs:
                with suppress(KeyError):  # somebody has deleted it in Optuna's dashboard
                    storage.delete_study(study._study_id)


class OptunaStudies:
    """The ids of the Optuna studies that show one study; those that are missing are created."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._ids: dict[str, int] = {}

    def ids(self, names: Sequence[str]) -> list[int]:
        """The ids of studies by name. A study that shows another one of the ledger, which was deleted, is replaced."""
        self._find(names)
        if any(name not in self._ids for name in names):
            with _opened(self.ledger.engine) as storage, creation_lock(self.ledger.engine):
                self._find(names)
                self._ids |= {name: self._create(storage, name) for name in names if name not in self._ids}
        return [self._ids[name] for name in names]

    def forget(self) -> None:
        """Looks all ids up at the next call: somebody deleted a study in Optuna."""
        self._ids.clear()

    def _find(self, names: Sequence[str]) -> None:
        if unknown := [name for name in names if name not in self._ids]:
            found = find_studies(self.ledger.engine, unknown, STUDY_ID)
            self._ids |= {name: study for name, (study, ledger) in found.items() if ledger == self.ledger.id}

    def _create(self, storage: RDBStorage, name: str) -> int:
        with suppress(KeyError):
            storage.delete_study(storage.get_study_id_from_name(name))  # left over from a deleted study
        tuning = name.removeprefix(f"{self.ledger.study}/").split("/")[1:2] == ["tune"]
        primary = task_of(self.ledger.definition).primary
        direction = self.ledger.direction if tuning else direction_of_metric(primary)
        with suppress(DuplicatedStudyError):
            storage.create_new_study([StudyDirection[direction.upper()]], name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study = optuna.load_study(study_name=name, storage=storage)
            study.set_metric_names([self.ledger.definition["score"] if tuning else f"test_{primary}"])
        storage.set_study_user_attr(study._study_id, STUDY_ID, self.ledger.id)  # last: says that the study is complete
        return study._study_id


def _open(url: str, options: dict[str, Any]) -> RDBStorage:
    """Without what takes several connections at once, and `create_tables` has done."""
    return RDBStorage(url, engine_kwargs=options, skip_compatibility_check=True, skip_table_creation=True)


@contextmanager
def _opened(engine: Engine) -> Iterator[RDBStorage]:
    storage = open_storage(engine)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def find_studies(engine: Engine, names: Sequence[str], attribute: str) -> dict[str, tuple[int, Any]]:
    """Name → (id, value of that user attribute or None) of the studies that exist."""
    matches = sa.and_(
        schema.study_attributes.c.study_id == schema.studies.c.study_id, schema.study_attributes.c.key == attribute
    )
    query = sa.select(schema.studies.c.study_id, schema.studies.c.study_name, schema.study_attributes.c.value_json)
    query = query.outerjoin_from(schema.studies, schema.study_attributes, matches).where(
        schema.studies.c.study_name.in_(names)
    )
    rows = run_with_retry(engine, lambda connection: connection.execute(query).all())
    return {name: (study, None if text is None else json.loads(text)) for study, name, text in rows}
