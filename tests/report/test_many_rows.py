"""What makes reports of many thousands of runs fast gives the same as its slow, obvious form."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_record import synthetic_record

from hpo.analysis import paired_tests
from hpo.analysis.descriptors import spikes
from hpo.analysis.record import shortest_decimals
from hpo.report.csv_file import write_csv
from hpo.report.record_tables import KEYS, record_table

RANDOM = np.random.default_rng(1)
NUMBERS = {
    "shares": RANDOM.random(40_000),
    "counts": RANDOM.integers(0, 1000, 20_000) / 800,
    "magnitudes": 10 ** RANDOM.uniform(-20, 20, 30_000) * RANDOM.choice([-1, 1], 30_000),
    "powers of two": 2.0 ** np.arange(-140, 120),
    "powers of ten": 10.0 ** np.arange(-40, 38),
    "special": np.array([0, -0.0, np.nan, np.inf, -np.inf, 1e9, 123456789, 16777217]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_shortest_decimals_are_those_that_numpy_prints(kind: str) -> None:
    single = NUMBERS[kind].astype(np.float32)
    expected = single.astype(str).astype(np.float64)
    found = shortest_decimals(single.astype(np.float64))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_numbers_that_float32_does_not_hold_stay_as_they_are() -> None:
    double = np.array([0.1, 1e-300, 1e300, 0.30000000000000004, 123456789.1])
    np.testing.assert_array_equal(shortest_decimals(double), double)


def test_spikes_are_counted_epoch_by_epoch() -> None:
    for length in (0, 1, 5, 6, 7, 100):
        loss = RANDOM.random(length) + 0.5
        slow = sum(bool(loss[i] > 1.25 * np.median(loss[i - 5 : i])) for i in range(5, length))
        assert spikes(loss) == slow and (length < 100 or slow > 0)


def test_sign_flips_do_not_depend_on_how_many_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = RANDOM.normal(0.2, 1.0, 30)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(paired_tests.SAMPLED_FLIPS, 30))
    extreme = np.count_nonzero(np.abs(signs @ differences) >= abs(differences.sum()))
    expected = (extreme + 1) / (paired_tests.SAMPLED_FLIPS + 1)
    for size in (7, 100, 50_000):
        monkeypatch.setattr(paired_tests, "FLIPS_AT_ONCE", size)
        assert paired_tests.sign_flip(differences) == expected < 1


def test_csv_files_are_those_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({
        "number": [0.1, np.nan, 1e-7, -3.0, np.inf, 1e22],
        "whole": [1, 2, 3, 4, 5, 6],
        "flag": [True, False, True, True, False, False],
        "text": ["a", "b,c", 'd"e', "f\ng", "", None],
        "mixed": pd.Series([1, 2.5, "x", None, True, np.nan], dtype=object),
        "numbers": pd.Series([64, None, 0.1, np.float64(0.2), np.int64(3), False], dtype=object),
        "kind": pd.Categorical(["a", "b", None, "a", "b", "b"]),
    })  # fmt: skip
    for table in (frame, frame.iloc[:0], pd.concat([frame] * 5000)):
        write_csv(table, tmp_path / "fast.csv")
        table.to_csv(tmp_path / "slow.csv", index=False, lineterminator="\n")
        assert (tmp_path / "fast.csv").read_bytes() == (tmp_path / "slow.csv").read_bytes()


@pytest.mark.parametrize("name, phase", [("trial_curves", "tune"), ("curves", "rerun")])
def test_curves_have_a_row_for_each_epoch(name: str, phase: str) -> None:
    whole = synthetic_record()
    kept = RANDOM.random(len(whole.curves)) < 0.8  # slots that lack epochs and metrics
    record = whole._replace(curves=whole.curves[kept])
    slots = record.slots[record.slots.phase == phase].rename(columns={"slot": "number"})
    slots[["tuning_run", "round", "number"]] += 1
    slots["phase"] = {"tune": "trial", "rerun": "rerun"}[phase]
    pivoted = record.curves.astype({"metric": str}).pivot(index=["slot_id", "epoch"], columns="metric", values="value")
    slow = slots.set_index("id")[KEYS].join(pivoted.reset_index("epoch"), how="inner").reset_index(drop=True)
    unknown = [column for column in slow if len(slow) and slow[column].isna().all()]
    pd.testing.assert_frame_equal(record_table(record, name), slow.drop(columns=unknown), check_dtype=False)
