"""The metrics of every epoch, a row a run and metric in the database, read as columns of points."""

import json
import math
import random
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from postgres_server import PostgresServer
from storage_study import make

from hpo.report import make_record
from hpo.storage import curves
from hpo.storage.database import connect

Runs = Sequence[tuple[int, Mapping[str, Sequence[float]]]]


def one_by_one(runs: Runs) -> dict[str, list[Any]]:
    """What `curves.read` must give, a point at a time."""
    columns: dict[str, list[Any]] = {"slot_id": [], "epoch": [], "metric": [], "value": []}
    for slot, series in sorted(runs, key=lambda run: run[0]):
        for metric in sorted(series):
            for epoch, value in enumerate(series[metric], start=1):
                point = (slot, epoch, metric, value if math.isfinite(value) else math.nan)
                for column, entry in zip(columns.values(), point, strict=True):
                    column.append(entry)
    return columns


def as_text(columns: Mapping[str, Any]) -> str:
    """Every digit, in which a NaN is one."""
    return json.dumps(
        {name: column if isinstance(column, list) else column.tolist() for name, column in columns.items()}
    )


def random_runs(ids: Sequence[int]) -> Runs:
    """Metrics and lengths of every run's own; some lack a metric, some have one without an epoch."""
    rng = random.Random(0)
    odd = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3]
    metrics = ["train_loss", "validation_accuracy", "aux/penalty", "Zahl", "ρ 'of' \"x\", {y}\\"]
    return [
        (slot, {
            metric: [rng.choice(odd) if rng.random() < 0.2 else rng.gauss(0, 1) for _ in range(rng.randrange(400))]
            for metric in rng.sample(metrics, rng.randrange(len(metrics) + 1))
        })
        for slot in rng.sample(list(ids), len(ids))
    ]  # fmt: skip


def test_curves_come_back_as_written(url: str) -> None:
    engine = connect(url)
    first, second = [row["id"] for row in make(engine).export()["slots"][:2]]
    with engine.begin() as connection:
        curves.insert(connection, [(second, {"loss": [3.0]}), (first, {"loss": [1.0, math.nan], "aux/penalty": [0.5]})])
        curves.insert(connection, [])
    found = curves.read(engine, "s")
    assert found["slot_id"].tolist() == [first, first, first, second]
    assert found["metric"].tolist() == ["aux/penalty", "loss", "loss", "loss"]
    assert found["epoch"].tolist() == [1, 1, 2, 1]
    assert found["value"][:2].tolist() == [0.5, 1.0] and math.isnan(found["value"][2]) and found["value"][3] == 3.0


def test_many_runs_come_back_as_a_point_at_a_time_would_be_read(url: str) -> None:
    engine = connect(url)
    ids = [row["id"] for row in make(engine).export()["slots"]]
    others = [row["id"] for row in make(engine, "other").export()["slots"]]
    runs = random_runs(ids)
    with engine.begin() as connection:
        curves.insert(connection, [*runs[::2], (others[0], {"train_loss": [9.0]})])
        curves.insert(connection, runs[1::2])
    assert as_text(curves.read(engine, "s")) == as_text(one_by_one(runs))
    assert as_text(curves.read(engine, "other")) == as_text(one_by_one([(others[0], {"train_loss": [9.0]})]))


@pytest.mark.parametrize("nothing", [[], [(1, {})], [(1, {"loss": []})]])
def test_without_a_point_every_column_is_there_and_empty(url: str, nothing: Runs) -> None:
    engine = connect(url)
    export = make(engine).export()
    with engine.begin() as connection:
        curves.insert(connection, nothing)
        assert connection.exec_driver_sql("select count(*) from hpo_curves").scalar() == 0
    found = curves.read(engine, "s")
    assert {name: (column.shape, column.dtype) for name, column in found.items()} == {
        "slot_id": ((0,), np.int64), "epoch": ((0,), np.int64), "metric": ((0,), object), "value": ((0,), np.float64),
    }  # fmt: skip
    assert make_record(export, found).curves.empty


def test_one_row_holds_a_metric_as_little_endian_doubles(url: str) -> None:
    """Read by hand: a database outlives the machine that wrote it."""
    engine = connect(url)
    slot = make(engine).export()["slots"][0]["id"]
    with engine.begin() as connection:
        curves.insert(connection, [(slot, {"loss": [1.5, -math.inf, 0.1], "accuracy": [0.25]})])
    with engine.begin() as connection:
        rows = connection.execute(sa.text("select metric, points from hpo_curves order by metric")).all()
    assert [(metric, len(points)) for metric, points in rows] == [("accuracy", 8), ("loss", 24)]
    assert struct.unpack("<d", rows[0].points) == (0.25,)
    first, second, third = struct.unpack("<3d", rows[1].points)
    assert (first, third) == (1.5, 0.1) and math.isnan(second)


def test_a_name_too_long_for_the_table_is_refused_and_not_cut_off(postgresql: PostgresServer) -> None:
    """Two metrics would become one. SQLite knows no lengths."""
    url = postgresql.create()
    engine = connect(url)
    slot = make(engine).export()["slots"][0]["id"]
    with pytest.raises(sa.exc.DataError, match="too long"), engine.begin() as connection:
        curves.insert(connection, [(slot, {"aux/" + 97 * "x": [1.0]})])
    engine.dispose()
    postgresql.drop(url)
