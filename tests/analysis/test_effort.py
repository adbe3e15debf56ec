"""Sensitivity to the learning rate and scores at equal compute, recomputed from trials and curves."""

import math
from typing import Any

import numpy as np
import pytest
from report_text import text_of
from synthetic_record import synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record, make_record

NAMES = ("AdamW", "SAM")


def record(**changes: Any) -> Record:
    export, curves = synthetic_export(names=NAMES, seeds=6, tuning_runs=2)
    export["study"]["definition"] |= changes
    return make_record(export, curves)


def test_the_factor_is_that_of_the_learning_rates_within_the_margin_of_each_best_trial() -> None:
    chosen = record(margin=0.01)
    effort = compute_numbers(chosen).effort["SAM"]
    factors, within = [], 0
    for run in (0, 1):
        keys = chosen.slots[["configuration", "phase", "tuning_run", "state"]].apply(tuple, axis=1)
        rows = chosen.slots[keys == ("SAM", "tune", run, "done")].to_dict("records")
        best = max(row["value"] for row in rows)
        rates = [row["setting"]["learning_rate"] for row in rows if row["value"] >= best - 0.01]
        factors.append(max(rates) / min(rates))
        within += len(rates)
    assert effort.rate_factor == pytest.approx(math.sqrt(factors[0] * factors[1]))
    assert effort.trials_within == within


def test_a_learning_rate_of_zero_has_no_factor() -> None:
    """A choice of learning rates may have it."""
    export, curves = synthetic_export(names=NAMES)
    for row in export["slots"]:
        if row["phase"] == "tune":
            row["setting"]["learning_rate"] = 0.01 * (row["slot"] % 3) if row["configuration"] == "SAM" else 0.0
    export["study"]["definition"]["margin"] = 1.0
    for entry in export["study"]["definition"]["configurations"]:
        entry["space"]["learning_rate"] = {"low": 0.0, "high": 0.1, "log": False, "off": None}
    effort = compute_numbers(make_record(export, curves)).effort
    assert effort["SAM"].rate_factor == pytest.approx(2) and math.isnan(effort["AdamW"].rate_factor)


def test_a_configuration_with_twice_the_gradients_is_compared_at_half_of_its_epochs() -> None:
    chosen = record()
    numbers, epochs = compute_numbers(chosen), chosen.study["definition"]["epochs"]
    assert [numbers.effort[name].epoch for name in NAMES] == [epochs, epochs // 2]
    slots = chosen.slots[(chosen.slots.configuration == "SAM") & (chosen.slots.phase == "rerun")]
    curves = chosen.curves[chosen.curves.slot_id.isin(slots.id) & (chosen.curves.metric == "validation_accuracy")]
    expected = curves[curves.epoch == epochs // 2].value
    assert numbers.effort["SAM"].score.mean == pytest.approx(float(np.mean(expected)))
    assert "T11." in text_of(chosen)


def test_the_best_scores_after_some_trials_are_those_of_the_first_trials_of_each_tuning_run() -> None:
    export, curves = synthetic_export(names=NAMES, seeds=6, tuning_runs=3, trials=12)
    rows = [row for row in export["slots"] if (row["configuration"], row["phase"]) == ("SAM", "tune")]
    after = compute_numbers(make_record(export, curves)).effort["SAM"].best_after
    assert list(after) == [5, 10, 12]
    for count, summary in after.items():
        best = [
            max(row["value"] for row in rows if row["tuning_run"] == run and row["slot"] < count) for run in range(3)
        ]
        assert (summary.n, summary.mean) == (3, pytest.approx(float(np.mean(best))))
        assert summary.sd == pytest.approx(float(np.std(best, ddof=1)))
    for row in rows:
        if row["tuning_run"] == 0 and row["slot"] > 6:
            row |= {"state": "open", "value": None, "result": None}
    left = compute_numbers(make_record(export, curves)).effort["SAM"].best_after
    assert left[5] == after[5] and [left[count].n for count in (10, 12)] == [2, 2], (
        "an unfinished run has no best of 10"
    )


def test_without_gradient_evaluations_or_a_margin_in_units_of_the_score_nothing_is_claimed() -> None:
    chosen = record(score="train_loss", direction="minimize")
    for result in chosen.slots["result"]:
        if isinstance(result, dict):
            result.pop("gradient_evaluations", None)
    effort = compute_numbers(chosen).effort["SAM"]
    assert math.isnan(effort.rate_factor) and effort.epoch is None
    assert "T11." not in text_of(chosen)
