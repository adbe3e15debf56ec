"""The metrics table, written in one insert and read as columns."""

import math

from storage_study import make

from hpo import curves
from hpo.database import connect


def test_curves_come_back_as_written(url: str) -> None:
    engine = connect(url)
    first, second = [row["id"] for row in make(engine).export()["slots"][:2]]
    with engine.begin() as connection:
        curves.insert(connection, [(second, {"loss": [3.0]}), (first, {"loss": [1.0, math.nan], "aux/penalty": [0.5]})])
        curves.insert(connection, [])
    found = curves.read(engine, "s")
    assert found["slot_id"] == [first, first, first, second]
    assert found["metric"] == ["aux/penalty", "loss", "loss", "loss"]
    assert found["epoch"] == [1, 1, 2, 1]
    assert found["value"][:2] == [0.5, 1.0] and math.isnan(found["value"][2]) and found["value"][3] == 3.0
    assert curves.read(engine, "other")["value"] == []
