"""Optuna's tables as hpo reads and writes them, in the version that they have had since 2023."""

from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy.engine import Connection, Engine

from hpo.storage.transactions import retry

VERSION = "v3.2.0.a"  # what Optuna notes in `alembic_version`

_KINDS = ("FINITE", "INF_POS", "INF_NEG")
_metadata = sa.MetaData()


def _table(name: str, **columns: Any) -> sa.Table:
    return sa.Table(name, _metadata, *(sa.Column(column, kind) for column, kind in columns.items()))


_version = _table("alembic_version", version_num=sa.String(32))
studies = _table("studies", study_id=sa.Integer, study_name=sa.String(512))
study_attributes = _table("study_user_attributes", study_id=sa.Integer, key=sa.String(512), value_json=sa.Text)
system_attributes = _table("study_system_attributes", study_id=sa.Integer, key=sa.String(512), value_json=sa.Text)
trials = _table(
    "trials",
    trial_id=sa.Integer,
    number=sa.Integer,
    study_id=sa.Integer,
    state=sa.Enum(TrialState),
    datetime_start=sa.DateTime,  # in UTC, without a time zone
    datetime_complete=sa.DateTime,
)
trial_attributes = _table("trial_user_attributes", trial_id=sa.Integer, key=sa.String(512), value_json=sa.Text)
trial_system_attributes = _table("trial_system_attributes", trial_id=sa.Integer, key=sa.String(512), value_json=sa.Text)
parameters = _table(
    "trial_params",
    trial_id=sa.Integer,
    param_name=sa.String(512),
    param_value=sa.Float(53),
    distribution_json=sa.Text,
)
values = _table(
    "trial_values",
    trial_id=sa.Integer,
    objective=sa.Integer,
    value=sa.Float(53),
    value_type=sa.Enum(*_KINDS, name="trialvaluetype"),
)
intermediate_values = _table(
    "trial_intermediate_values",
    trial_id=sa.Integer,
    step=sa.Integer,
    intermediate_value=sa.Float(53),
    intermediate_value_type=sa.Enum(*_KINDS, "NAN", name="trialintermediatevaluetype"),
)


def read_version(engine: Engine) -> str | None:
    """The version of Optuna's tables; None before they are created."""

    def read() -> str | None:
        with engine.begin() as connection:
            if not sa.inspect(connection).has_table(_version.name):
                return None
            return connection.scalar(sa.select(_version.c.version_num))

    return retry(read)


def create(connection: Connection) -> None:
    """Creates the tables as Optuna does, but in one transaction: Optuna needs three connections at once for it."""
    models.BaseModel.metadata.create_all(connection)
    info = models.VersionInfoModel
    if connection.scalar(sa.select(info.schema_version)) is None:
        versions = {"schema_version": models.SCHEMA_VERSION, "library_version": optuna.__version__}
        connection.execute(sa.insert(info).values(versions))
    scripts = ScriptDirectory(str(Path(models.__file__).parent / "alembic"))
    MigrationContext.configure(connection).stamp(scripts, scripts.get_current_head() or VERSION)
