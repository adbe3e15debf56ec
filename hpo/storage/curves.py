"""The metrics of every epoch: one row a run and metric, which holds all its epochs; read back as columns."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hpo.storage import bulk_sql, schema
from hpo.storage.transactions import run_with_retry

POINT = np.dtype("<f8")  # as `schema.curves` holds it on every machine
# All points are sent as one binary value that the server cuts up; as text each byte would take two.
_INSERT_SLICES = sa.text("""
    INSERT INTO hpo_curves (slot_id, metric, points)
    SELECT slot_id, metric, substring(CAST(:points AS bytea) FROM start + 1 FOR size)
    FROM json_to_recordset(CAST(:slices AS json)) AS new (slot_id integer, metric text, start integer, size integer)
""").bindparams(sa.bindparam("points", type_=sa.LargeBinary))


def insert(connection: Connection, runs: Iterable[tuple[int, Mapping[str, Sequence[float]]]]) -> None:
    """Writes the curves of several runs in the caller's transaction, in one statement.

    Args:
        runs: (slot id, metric → values of epochs 1, 2, …). Values that are not finite become NaN.
    """
    series = [(slot, metric, values) for slot, curves in runs for metric, values in curves.items() if len(values)]
    series.sort(key=lambda entry: entry[:2])  # in the order of the table's key: neighbours are written together
    if not series:
        return
    points = np.fromiter(chain.from_iterable(values for _, _, values in series), POINT)
    points[~np.isfinite(points)] = np.nan
    packed = points.tobytes()
    bounds = pairwise(accumulate((len(values) * POINT.itemsize for _, _, values in series), initial=0))
    slices = [(slot, metric, start, end) for (slot, metric, _), (start, end) in zip(series, bounds, strict=True)]
    if connection.dialect.name == "postgresql":
        rows = [
            {"slot_id": slot, "metric": metric, "start": start, "size": end - start}
            for slot, metric, start, end in slices
        ]
        connection.execute(_INSERT_SLICES, {"points": packed, "slices": json.dumps(rows)})
        return
    connection.execute(sa.insert(schema.curves), [
        {"slot_id": slot, "metric": metric, "points": packed[start:end]} for slot, metric, start, end in slices
    ])  # fmt: skip


def read(engine: Engine, study: str) -> dict[str, Any]:
    """All curves of a study as columns of equal length, by slot, metric and epoch.

    Returns:
        slot_id and epoch (int32, epochs from 1), metric (categories in order), value (float64, NaN where it was not
        finite).
    """

    def select(connection: Connection) -> Sequence[Any]:
        table = schema.curves.join(schema.slots, schema.curves.c.slot_id == schema.slots.c.id).join(schema.studies)
        query = sa.select(schema.curves).select_from(table).where(schema.studies.c.name == study)
        return connection.execute(query).all()

    import pandas as pd  # not needed by workers

    rows = sorted(run_with_retry(engine, select))
    lengths = np.array([len(row.points) // POINT.itemsize for row in rows], dtype=np.int64)
    first = np.cumsum(lengths) - lengths
    metrics = sorted({row.metric for row in rows})
    codes = {metric: code for code, metric in enumerate(metrics)}
    numbers = np.repeat(np.array([codes[row.metric] for row in rows], dtype=np.int16), lengths)
    return {
        "slot_id": np.repeat(np.array([row.slot_id for row in rows], dtype=np.int32), lengths),
        "epoch": 1 + np.arange(lengths.sum(), dtype=np.int32) - np.repeat(first.astype(np.int32), lengths),
        "metric": pd.Categorical.from_codes(numbers, pd.Index(metrics, dtype=object)),
        "value": np.frombuffer(b"".join(row.points for row in rows), POINT),
    }


def read_metric(connection: Connection, slots: Sequence[int], metric: str) -> dict[int, list[float]]:
    """Slot id → values of one metric in epochs 1, 2, …, for the slots that have it."""
    of_slots = bulk_sql.among(connection, schema.curves.c.slot_id, slots)
    query = sa.select(schema.curves.c.slot_id, schema.curves.c.points).where(of_slots, schema.curves.c.metric == metric)
    return {slot: np.frombuffer(points, POINT).tolist() for slot, points in connection.execute(query)}


def read_all_metrics(connection: Connection, slots: Sequence[int]) -> dict[int, dict[str, list[float]]]:
    """Slot id → metric → values in epochs 1, 2, …, for the slots that have curves."""
    curves: dict[int, dict[str, list[float]]] = {}
    rows = connection.execute(
        sa.select(schema.curves).where(bulk_sql.among(connection, schema.curves.c.slot_id, slots))
    )
    for slot, metric, points in rows:
        curves.setdefault(slot, {})[metric] = np.frombuffer(points, POINT).tolist()
    return curves
