"""The shortest decimals that are true to float32."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from synthetic_record import synthetic_export

from hpo.analysis.record import shorten_results, shortest_decimals
from hpo.report import make_record, write_report


def test_every_float32_becomes_its_shortest_decimal() -> None:
    generator = np.random.default_rng(3)
    magnitudes = 10.0 ** generator.uniform(-20, 20, 3000) * generator.choice([-1, 1], 3000)
    shares = generator.integers(0, 4000, 2000) / 4000
    values = np.concatenate([magnitudes, shares, [0.0, 0.5, -2.5, 1e-3, 2.0**-20]]).astype(np.float32)
    actual = shortest_decimals(values.astype(np.float64))
    assert actual.tolist() == [float(str(value)) for value in values]
    assert (actual.astype(np.float32) == values).all()
    assert shortest_decimals([0.4762499928474426, 0.25]).tolist() == [0.47625, 0.25]


def test_other_numbers_and_shapes_stay_as_they_are() -> None:
    values = [0.1 + 0.2, 1 / 3, math.pi * 1e-15, 1e300, 5e-324, math.inf, -math.inf]
    assert shortest_decimals(values).tolist() == values
    assert np.isnan(shortest_decimals([math.nan])).all() and shortest_decimals([]).tolist() == []
    assert shortest_decimals([[0.25], [float(np.float32(0.3))]]).tolist() == [[0.25], [0.3]]


def test_results_keep_their_other_entries() -> None:
    given = [{"a": float(np.float32(0.7)), "epochs": 3, "note": "x"}, None, {"a": 0.1 + 0.2}]
    actual = shorten_results(given)
    assert actual == [{"a": 0.7, "epochs": 3, "note": "x"}, None, {"a": 0.1 + 0.2}]
    assert given[0]["a"] != 0.7  # type: ignore[index]
    assert [type(value) for value in actual[0].values()] == [float, int, str]


def test_the_csv_files_hold_no_digits_beyond_float32(tmp_path: Path) -> None:
    export, curves = synthetic_export(trials=3, seeds=3, epochs=3)
    for row in export["slots"]:
        row["value"] = float(np.float32(row["slot"] / 7))
        row["result"] |= {"test_accuracy": row["value"], "train_loss": 1 / 3}
    curves["value"] = [float(np.float32(round(value, 4))) for value in curves["value"]]
    write_report(make_record(export, curves), tmp_path, "synthetic", [])
    reruns = pd.read_csv(tmp_path / "reruns.csv", dtype=str)
    assert reruns["value"].tolist() == ["0.0", "0.14285715", "0.2857143"] * 2 == reruns["result/test_accuracy"].tolist()
    assert set(reruns["result/train_loss"]) == {"0.3333333333333333"}
    epochs = pd.read_csv(tmp_path / "curves.csv", dtype=str)
    assert epochs["validation_loss"].str.len().max() <= 6
