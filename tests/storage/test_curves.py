"""The metrics of every epoch, one row a run and metric in the database, read as columns of points."""

import math
import random
import struct
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import sqlalchemy as sa
from postgres_server import PostgresServer
from sqlalchemy.engine import Engine
from storage_study import make

from hpo.report import make_record
from hpo.storage import curves
from hpo.storage.database import connect

Runs = Sequence[tuple[int, Mapping[str, Sequence[float]]]]
Point = tuple[int, str, int, str]  # slot, metric, epoch and all digits of the value


@pytest.fixture
def engine(url: str) -> Engine:
    return connect(url)


def slot_ids(engine: Engine, name: str = "s") -> list[int]:
    return [row["id"] for row in make(engine, name).export()["slots"]]


def insert(engine: Engine, *parts: Runs) -> None:
    with engine.begin() as connection:
        for runs in parts:
            curves.insert(connection, runs)


def stored_points(engine: Engine, study: str) -> list[Point]:
    actual = curves.read(engine, study)
    return list(zip(*(actual[name] for name in ("slot_id", "metric", "epoch")), map(str, actual["value"]), strict=True))


def expected_points(runs: Runs) -> list[Point]:
    """One point at a time."""
    return sorted(
        (slot, metric, epoch, str(np.float64(value if math.isfinite(value) else math.nan)))
        for slot, series in runs
        for metric, values in series.items()
        for epoch, value in enumerate(values, start=1)
    )


def random_runs(ids: Sequence[int]) -> Runs:
    """Every run has other metrics and lengths; some lack a metric, some have one without an epoch."""
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


def test_many_runs_are_read_as_one_point_at_a_time_would_be(engine: Engine) -> None:
    runs, other = random_runs(slot_ids(engine)), (slot_ids(engine, "other")[0], {"train_loss": [9.0, math.nan]})
    insert(engine, [*runs[::2], other], [], runs[1::2])
    assert stored_points(engine, "s") == expected_points(runs)
    assert stored_points(engine, "other") == expected_points([other])


@pytest.mark.parametrize("nothing", [[], [(1, {})], [(1, {"loss": []})]])
def test_without_a_point_every_column_is_empty(engine: Engine, nothing: Runs) -> None:
    export = make(engine).export()
    insert(engine, nothing)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("select count(*) from hpo_curves").scalar() == 0
    actual = curves.read(engine, "s")
    assert {name: (column.shape, column.dtype) for name, column in actual.items()} == {
        "slot_id": ((0,), np.int32), "epoch": ((0,), np.int32), "metric": ((0,), "category"),
        "value": ((0,), np.float64),
    }  # fmt: skip
    assert make_record(export, actual).curves.empty


def test_a_row_has_a_metric_as_little_endian_doubles(engine: Engine) -> None:
    """A database may outlive the machine that wrote it."""
    insert(engine, [(slot_ids(engine)[0], {"loss": [1.5, -math.inf, 0.1], "accuracy": [0.25]})])
    with engine.begin() as connection:
        rows = connection.execute(sa.text("select metric, points from hpo_curves order by metric")).all()
    assert [(metric, len(points)) for metric, points in rows] == [("accuracy", 8), ("loss", 24)]
    assert struct.unpack("<d", rows[0].points) == (0.25,)
    first, second, third = struct.unpack("<3d", rows[1].points)
    assert (first, third) == (1.5, 0.1) and math.isnan(second)


def test_a_name_too_long_for_the_table_is_refused_instead_of_cut(postgresql: PostgresServer) -> None:
    """Two metrics would become one. SQLite has no lengths."""
    url = postgresql.create()
    engine = connect(url)
    with pytest.raises(sa.exc.DataError, match="too long"):
        insert(engine, [(slot_ids(engine)[0], {"aux/" + 97 * "x": [1.0]})])
    engine.dispose()
    postgresql.drop(url)
