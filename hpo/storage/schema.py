"""The tables of the ledger. VERSION must be raised when a table changes."""

import sqlalchemy as sa
from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

VERSION = 6

metadata = MetaData()
_JSON = sa.JSON(none_as_null=True)
_DOUBLE = Float(53)

version = Table("hpo_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

studies = Table(
    "hpo_studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("definition", _JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("text", _JSON, nullable=False),
    Column("fingerprint", _JSON, nullable=False),
    Column("trials", Integer, nullable=False),
    Column("seeds", Integer, nullable=False),
    Column("tuning_runs", Integer, nullable=False),
    Column("created", _DOUBLE, nullable=False),
    Column("notes", _JSON, nullable=False),
    Column("reported", _DOUBLE),  # when the last report was written
    Column("settings_assigned", _JSON, nullable=False),  # configurations whose reruns have the settings of their tuning
    Column("step_times", _JSON),  # the newest measurement; see `hpo.worker.step_times`
    sqlite_autoincrement=True,
)

slots = Table(
    "hpo_slots",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("hpo_studies.id"), nullable=False),
    Column("configuration", Text, nullable=False),
    Column("tuning_run", Integer, nullable=False),
    Column("phase", String(8), nullable=False),  # tune | rerun
    Column("round", Integer, nullable=False),
    Column("batch", Integer, nullable=False),  # of a tuning run; sampled when those before it are finished
    Column("slot", Integer, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("state", String(8), nullable=False),  # open | leased | done | failed
    Column("attempt", Integer, nullable=False, server_default="0"),  # leases of the present setting, with this one
    Column("replacements", Integer, nullable=False, server_default="0"),  # settings with too many failed attempts
    Column("worker_id", Text),
    Column("lease_until", _DOUBLE),
    Column("setting", _JSON),
    Column("value", _DOUBLE),
    Column("cause", Text),
    Column("result", _JSON),
    Column("seconds", _DOUBLE),
    Column("trial", Integer),
    Column("started", _DOUBLE),
    Column("finished", _DOUBLE),
    Index("hpo_slots_key", "study_id", "configuration", "tuning_run", "phase", "round", "batch", "slot", unique=True),
    Index("hpo_slots_state", "study_id", "state"),
    sqlite_autoincrement=True,  # ids are never reused, so that a late worker cannot change another study's slot
)

failures = Table(
    "hpo_failures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("hpo_studies.id"), nullable=False, index=True),
    Column("slot_id", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("cause", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("setting", _JSON),
    Column("time", _DOUBLE, nullable=False),
)

workers = Table(
    "hpo_workers",
    metadata,
    Column("study_id", Integer, ForeignKey("hpo_studies.id"), primary_key=True),
    Column("worker_id", String(200), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("environment", _JSON, nullable=False),
    Column("launch", Text, nullable=False, default=""),  # what started it: "slurm 12_3"
    Column("started", _DOUBLE, nullable=False),
    Column("seen", _DOUBLE, nullable=False),
    Column("training", _JSON),  # what it is training, as of a few seconds ago; see `ledger.progress.Training`
)

curves = Table(
    "hpo_curves",
    metadata,
    Column("slot_id", Integer, primary_key=True, autoincrement=False),
    Column("metric", String(100), primary_key=True),
    Column("points", sa.LargeBinary, nullable=False),  # epochs 1, 2, …: float64, little-endian; NaN: not finite
)
