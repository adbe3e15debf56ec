"""The metrics of every epoch: one bulk insert a population, read back as columns."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hpo import schema
from hpo.database import retrying


def insert(connection: Connection, runs: Iterable[tuple[int, Mapping[str, Sequence[float]]]]) -> None:
    """Writes the curves of several runs in the caller's transaction.

    Args:
        runs: (slot id, metric → values of epochs 1, 2, …). Values that are not finite become NULL.
    """
    rows = [
        {
            "slot_id": slot,
            "metric": metric,
            "epoch": epoch,
            "value": float(value) if math.isfinite(value) else None,
        }
        for slot, curves in runs
        for metric, values in curves.items()
        for epoch, value in enumerate(values, start=1)
    ]
    if rows:
        connection.execute(sa.insert(schema.curves), rows)


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
