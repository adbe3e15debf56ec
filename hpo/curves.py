"""The metrics of every epoch: one bulk insert a population, read back as columns."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hpo import schema
from hpo.database import retrying

# One run and metric a row, opened into its epochs by the server: a third of what is sent as four values a point.
_INSERT_ARRAYS = sa.text("""
    INSERT INTO hpo_curves (slot_id, metric, epoch, value)
    SELECT run.slot_id, run.metric, point.epoch, point.value
    FROM unnest(CAST(:slots AS integer[]), CAST(:metrics AS text[]), CAST(:points AS text[]))
        AS run (slot_id, metric, points),
        unnest(CAST(run.points AS double precision[])) WITH ORDINALITY AS point (value, epoch)
""")
_INSERT_ROW = "INSERT INTO hpo_curves (slot_id, metric, epoch, value) VALUES (?, ?, ?, ?)"


def insert(connection: Connection, runs: Iterable[tuple[int, Mapping[str, Sequence[float]]]]) -> None:
    """Writes the curves of several runs in the caller's transaction, in one statement.

    Args:
        runs: (slot id, metric → values of epochs 1, 2, …). Values that are not finite become NULL.
    """
    # In the order of the table's key, so that neighbours are written together.
    series = [(slot, metric, curves[metric]) for slot, curves in sorted(runs, key=_slot) for metric in sorted(curves)]
    if not series:
        return
    if connection.dialect.name == "postgresql":
        slots, metrics, points = zip(*((slot, metric, _array(values)) for slot, metric, values in series), strict=True)
        connection.execute(_INSERT_ARRAYS, {"slots": list(slots), "metrics": list(metrics), "points": list(points)})
        return
    rows = [
        (slot, metric, epoch, float(value) if math.isfinite(value) else None)
        for slot, metric, values in series
        for epoch, value in enumerate(values, start=1)
    ]
    if rows:
        connection.exec_driver_sql(_INSERT_ROW, rows)


def _slot(run: tuple[int, Any]) -> int:
    return run[0]


def _array(values: Sequence[float]) -> str:
    """The values as PostgreSQL reads an array; Python's shortest form of a number gives the same number back."""
    return "{" + ",".join(repr(float(value)) if math.isfinite(value) else "NULL" for value in values) + "}"


def read(engine: Engine, study: str) -> dict[str, list[Any]]:
    """All curves of a study as columns slot_id, epoch, metric, value (NaN where a value was not finite)."""

    def select(connection: Connection) -> Sequence[Any]:
        table = schema.curves.join(schema.slots, schema.curves.c.slot_id == schema.slots.c.id).join(schema.studies)
        columns = (
            schema.curves.c.slot_id,
            schema.curves.c.epoch,
            schema.curves.c.metric,
            schema.curves.c.value,
        )
        query = sa.select(*columns).select_from(table).where(schema.studies.c.name == study)
        return connection.execute(query.order_by(columns[0], columns[2], columns[1])).all()

    rows = retrying(engine, select)
    slot_id, epoch, metric, value = zip(*rows, strict=True) if rows else ((), (), (), ())
    return {
        "slot_id": list(slot_id),
        "epoch": list(epoch),
        "metric": list(metric),
        "value": [math.nan if entry is None else entry for entry in value],
    }
