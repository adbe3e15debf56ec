"""A whole study, with results, failures, workers and curves, from one database to another, or into another study."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hpo.errors import UsageError
from hpo.storage import bulk_sql, curves, schema
from hpo.storage.ledger import Ledger, load_study
from hpo.storage.ledger.lease_check import idle_study
from hpo.storage.ledger.leases import RELEASED
from hpo.storage.transactions import lock_table, run_with_retry

Row = dict[str, Any]
_KEY = ("configuration", "tuning_run", "phase", "round", "batch", "slot")


class WholeStudy(NamedTuple):
    """All rows of a study; ids are those of the database that it was read from.

    Attributes:
        curves: with `points` as bytes, as `schema.curves` describes them.
    """

    study: Row
    slots: list[Row]
    failures: list[Row]
    workers: list[Row]
    curves: list[Row]


def read_whole(engine: Engine, name: str) -> WholeStudy:
    """Reads a study as it is at one moment, without a lock: the database may be read-only.

    Raises:
        UsageError: there is no such study, or workers are training it.
    """
    if engine.dialect.name == "postgresql":  # else each statement sees what was committed before it
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    return run_with_retry(engine, lambda connection: _read(connection, idle_study(connection, name, "copied")))


def write_whole(engine: Engine, whole: WholeStudy, name: str) -> Ledger:
    """Writes a study under a name that is new in the database, in one transaction.

    Raises:
        UsageError: a study has this name.
    """

    def write(connection: Connection) -> None:
        lock_table(connection, schema.studies)
        names = sa.select(schema.studies.c.id).where(schema.studies.c.name == name)
        if connection.scalar(names) is not None:
            raise UsageError(f"the database has a study {name!r} already; delete that one, or give another --name")
        row = {key: value for key, value in whole.study.items() if key != "id"}
        connection.execute(sa.insert(schema.studies).values(row | {"name": name}))
        study = connection.scalar(names)
        assert study is not None
        insert_results(connection, study, whole, whole.study["definition"]["configurations"])

    run_with_retry(engine, write)
    return load_study(engine, name)


def insert_results(connection: Connection, study: int, whole: WholeStudy, entries: Sequence[Mapping[str, Any]]) -> None:
    """Inserts the rows of some configurations into a study that has none of them; Optuna's trials are not kept."""
    names = [entry["name"] for entry in entries]
    slots = [row for row in whole.slots if row["configuration"] in names]
    new = [{**_without(row, "id"), "study_id": study, "trial": None} for row in slots]
    bulk_sql.insert(
        connection, schema.slots, [row | (dict(RELEASED) if row["state"] == "leased" else {}) for row in new]
    )
    query = sa.select(schema.slots.c.id, *(schema.slots.c[key] for key in _KEY)).where(
        schema.slots.c.study_id == study, schema.slots.c.configuration.in_(names)
    )
    new_ids = {tuple(key): slot for slot, *key in connection.execute(query)}
    ids = {row["id"]: new_ids[tuple(row[key] for key in _KEY)] for row in slots}
    bulk_sql.insert(connection, schema.failures, [
        {**_without(row, "id"), "study_id": study, "slot_id": ids[row["slot_id"]]}
        for row in whole.failures
        if row["slot_id"] in ids
    ])  # fmt: skip
    known = set(connection.scalars(sa.select(schema.workers.c.worker_id).where(schema.workers.c.study_id == study)))
    workers = [row for row in whole.workers if row["worker_id"] not in known]
    bulk_sql.insert(connection, schema.workers, [row | {"study_id": study, "training": None} for row in workers])
    series = [(ids[row["slot_id"]], {row["metric"]: _values(row)}) for row in whole.curves if row["slot_id"] in ids]
    curves.insert(connection, series)


def _read(connection: Connection, study: int) -> WholeStudy:
    def rows(table: sa.Table, *order: sa.Column[Any]) -> list[Row]:
        query = sa.select(table).where(table.c.study_id == study).order_by(*order)
        return [dict(row) for row in connection.execute(query).mappings()]

    query = sa.select(schema.studies).where(schema.studies.c.id == study)
    of_study = schema.curves.c.slot_id.in_(sa.select(schema.slots.c.id).where(schema.slots.c.study_id == study))
    return WholeStudy(
        study=dict(connection.execute(query).mappings().one()),
        slots=rows(schema.slots, schema.slots.c.id),
        failures=rows(schema.failures, schema.failures.c.id),
        workers=rows(schema.workers, schema.workers.c.started, schema.workers.c.worker_id),
        curves=[dict(row) for row in connection.execute(sa.select(schema.curves).where(of_study)).mappings()],
    )


def _without(row: Row, *names: str) -> Row:
    return {key: value for key, value in row.items() if key not in names}


def _values(row: Row) -> Any:
    return np.frombuffer(row["points"], curves.POINT)
