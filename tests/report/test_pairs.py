"""The rivals against one another: the differences that no verdict is about, against scipy and by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from report_text import part, text_of
from scipy import stats
from synthetic_record import Row, diverge, synthetic_export, synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import make_record

Export = tuple[Row, dict[str, list[Any]]]
NAMES = ("AdamW", "two views", "GVR")
VIEWS = [0.52, 0.55, 0.51, 0.56, 0.53, 0.50]
GVR = [0.54, 0.54, 0.55, 0.57, 0.56, 0.50]
PLANTED = {"AdamW": [0.5] * 6, "two views": VIEWS, "GVR": GVR}


def of_losses(loss: Callable[[Row], float] = lambda _: 1.0, seeds: int = 6) -> Export:
    """A study whose verdicts compare the test loss."""
    export, curves = synthetic_export(names=NAMES, seeds=seeds, direction="minimize")
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["result"]["test_loss"] = loss(row)
    return export, curves


def tuned_three_times(export: Row) -> None:
    """Spreads trials and reruns over three tuning runs, as the ledger does."""
    export["study"]["tuning_runs"] = 3
    for row in export["slots"]:
        row["tuning_run"] = row["slot"] % 3


def table(text: str) -> list[str]:
    return [line for line in part(text, "T3.", "</details>").splitlines() if line.startswith("| ")][1:]


def test_every_two_rivals_are_compared_seed_by_seed() -> None:
    record = synthetic_record(names=NAMES, seeds=6, accuracies=PLANTED)
    [pair] = compute_numbers(record).pairs
    gains = np.subtract(GVR, VIEWS)
    expected = stats.ttest_rel(GVR, VIEWS).confidence_interval(0.95)
    assert (pair.name, pair.other, pair.reason, pair.n, pair.won, pair.tied) == ("GVR", "two views", "", 6, 4, 1)
    assert pair.mean == pytest.approx(gains.mean()) and pair.interval == pytest.approx(tuple(expected))
    low, high = (f"{100 * end:.2f}".replace("-", "−") for end in expected)
    assert table(text_of(record)) == [
        f"| GVR | two views | 6 | +{100 * gains.mean():.2f} [{low}, {high}] | 4 of 6, 1 tied |"
    ]


def test_with_several_tuning_runs_their_means_are_compared() -> None:
    export, curves = synthetic_export(names=NAMES, seeds=6, accuracies=PLANTED)
    tuned_three_times(export)
    [pair] = compute_numbers(make_record(export, curves)).pairs
    sides = [np.reshape(values, (2, 3)).mean(axis=0) for values in (GVR, VIEWS)]  # seeds 0 and 3 are of run 0, …
    assert pair.n == 3 and pair.mean == pytest.approx(np.mean(sides[0] - sides[1]))
    assert pair.interval == pytest.approx(tuple(stats.ttest_rel(*sides).confidence_interval(0.95)))


def test_a_rerun_that_has_no_value_leaves_its_pair_out() -> None:
    export, curves = of_losses()
    diverge(export["slots"][-1], curves, bounded=False)
    assert table(text_of(make_record(export, curves))) == ["| GVR | two views | 5 | 1 diverged | – |"]


def test_diverged_reruns_are_counted_and_two_configurations_that_all_diverged_are_not_alike() -> None:
    export, curves = synthetic_export(names=("AdamW", "A", "B", "C"), seeds=6)
    for row in export["slots"]:
        if row["phase"] == "rerun" and row["configuration"] in ("A", "B"):
            diverge(row, curves)
    rows = table(text_of(make_record(export, curves)))
    assert rows[0] == "| B | A | 6 | every rerun of both diverged | – |"
    assert all(row.endswith(", 6 diverged reruns counted | 6 of 6 |") for row in rows[1:]) and len(rows) == 3


def test_diverged_reruns_are_counted_and_not_their_tuning_runs() -> None:
    export, curves = of_losses(seeds=9)
    tuned_three_times(export)
    for row in [row for row in export["slots"] if row["phase"] == "rerun" and row["configuration"] == "GVR"][::3]:
        diverge(row, curves, bounded=False)
    [pair] = compute_numbers(make_record(export, curves)).pairs
    assert (pair.reason, pair.diverged) == ("3 diverged", 3)


def test_a_diverged_rerun_that_left_its_pair_is_not_counted() -> None:
    """Seed 1005 diverged for one and failed for the other: five pairs are left, and all of them have values."""
    export, curves = of_losses(lambda row: 1.0 - PLANTED[row["configuration"]][row["slot"]])
    last = {row["configuration"]: row for row in export["slots"] if row["phase"] == "rerun"}
    diverge(last["GVR"], curves, bounded=False)
    last["two views"].update(state="failed", value=None)
    [row] = table(text_of(make_record(export, curves)))
    assert row.startswith("| GVR | two views | 5 | −") and row.endswith("] | 4 of 5 |")


def test_less_of_a_loss_is_won() -> None:
    export, curves = of_losses(lambda row: 1.0 - PLANTED[row["configuration"]][row["slot"]])
    [pair] = compute_numbers(make_record(export, curves)).pairs
    assert pair.won == 4 and pair.mean == pytest.approx(-np.subtract(GVR, VIEWS).mean())
    assert "(lower is better), with the interval" in part(text_of(make_record(export, curves)), "T3.", "</details>")


def test_all_pairs_have_a_row_except_those_with_the_baseline() -> None:
    names = ("AdamW", "A", "B", "C")
    compared = [(pair.name, pair.other) for pair in compute_numbers(synthetic_record(names=names)).pairs]
    assert compared == [("B", "A"), ("C", "A"), ("C", "B")]


def test_a_single_rival_has_no_such_table_and_early_ones_say_what_is_missing() -> None:
    assert "T3." not in text_of(synthetic_record()) and compute_numbers(synthetic_record()).pairs == []
    assert "T3." not in text_of(synthetic_record(names=NAMES, finished_reruns=0))
    early = text_of(synthetic_record(names=NAMES, finished_reruns=1))
    assert table(early) == ["| GVR | two views | 1 | 1 paired seed, 3 are needed | – |"]
