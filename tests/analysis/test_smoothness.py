"""How smoothly the training loss decreases, and when the learning rate confounds a comparison of it."""

import math

import numpy as np
import pandas as pd
import pytest
from synthetic_record import diverge, synthetic_export, synthetic_record

from hpo.analysis import descriptors
from hpo.analysis.compute import compute_numbers
from hpo.analysis.results import StudyNumbers
from hpo.analysis.smoothness import learning_rates, same_learning_rate, smoothness
from hpo.report import Record, formatting, make_record
from hpo.report.page import markdown
from hpo.report.report_page import report_page

LOSSES = {0: [4.0, 2.0, 1.0, 0.5], 1: [4.0, 2.0, 4.0, 1.0], 2: [1.0, 9.0, 1.0, 1.0]}


def curves(losses: dict[int, list[float]]) -> pd.DataFrame:
    rows = [(seed, epoch, value) for seed, run in losses.items() for epoch, value in enumerate(run, start=1)]
    return pd.DataFrame(rows[::-1], columns=["seed", "epoch", "value"])


def analysis_of(numbers: StudyNumbers) -> str:
    text = markdown(report_page(numbers, [], ["hpo run synthetic"], None))
    return text[text.index("## Analysis") : text.index("## Tuning")]


def at_rates(first: float, second: float) -> Record:
    export, curves = synthetic_export()
    for row in export["slots"]:
        if row["phase"] == "rerun":
            rate = first if row["configuration"] == "AdamW" else second
            row["setting"] = {**row["setting"], "learning_rate": rate}
    return make_record(export, curves)


def test_smoothness_by_seed_without_those_that_diverged() -> None:
    smooth = smoothness(curves(LOSSES), diverged=[2], learning_rates=[0.1])
    assert list(smooth.roughness) == [0, 1]
    assert smooth.roughness[0] == pytest.approx(0, abs=1e-12)
    assert smooth.roughness[1] == pytest.approx(descriptors.roughness(LOSSES[1]))
    assert smooth.upward_variation.mean == pytest.approx(0.25)  # one ascends by half of its descent, one never
    assert (smooth.spikes, smooth.epochs, smooth.learning_rates) == (0, 4, [0.1])


def test_losses_of_zero_and_runs_too_short_give_no_infinity() -> None:
    smooth = smoothness(curves({0: [1.0, 0.0, 1.0], 1: [1.0, 0.5]}), [], [])
    assert list(smooth.roughness) == [0] and math.isfinite(smooth.roughness[0])
    nothing = smoothness(curves({}), [], [])
    assert nothing.roughness == {} and nothing.epochs == 0 and math.isnan(nothing.mean_roughness.mean)


def test_the_learning_rates_are_those_of_the_reruns_tuned_or_fixed() -> None:
    tuned = {"space": {"learning_rate": {"low": 0.1, "high": 1.0, "log": True, "off": None}}}
    assert learning_rates(tuned, [{"learning_rate": 0.3}, {"learning_rate": 0.2}]) == [0.2, 0.3]
    assert learning_rates({"space": {"learning_rate": 0.5}}, [{}]) == [0.5]
    assert learning_rates({"space": {"step": 0.5}}, [{"step": 0.5}]) == [] == learning_rates(tuned, [])
    one, two, none = (smoothness(curves(LOSSES), [], rates) for rates in ([0.1], [0.1, 0.2], []))
    assert same_learning_rate(one, one) and not same_learning_rate(one, two) and not same_learning_rate(none, none)


def test_a_report_gives_the_numbers_and_says_where_the_learning_rate_confounds_them() -> None:
    numbers = compute_numbers(at_rates(1e-3, 2e-3))
    [rival] = numbers.rivals
    gnvr, other = (entry.smoothness for entry in numbers.configurations[::-1])
    differences = [gnvr.roughness[seed] - other.roughness[seed] for seed in range(1000, 1005)]
    assert rival.roughness is not None and rival.roughness.mean == pytest.approx(np.mean(differences))
    assert not rival.same_learning_rate
    text = analysis_of(numbers)
    values = [gnvr.mean_roughness.mean, other.mean_roughness.mean, float(np.mean(differences))]
    climbs = [f"{100 * side.upward_variation.mean:.1f}%" for side in (gnvr, other)]
    rates = ["2.00e-3", "1.00e-3", "another learning rate"]
    shown = [*map(formatting.three_digits, values), *climbs, f"{gnvr.spikes} in 5", *rates]
    assert [each for each in shown if each not in text] == []
    same = compute_numbers(at_rates(1e-3, 1e-3))
    assert same.rivals[0].same_learning_rate and "another learning rate" not in analysis_of(same)


def test_there_is_no_comparison_below_three_pairs_or_three_epochs() -> None:
    export, curves = synthetic_export()
    for row in [row for row in export["slots"] if row["phase"] == "rerun"][:3]:
        diverge(row, curves)
    for record in (synthetic_record(seeds=2), synthetic_record(epochs=2), make_record(export, curves)):
        numbers = compute_numbers(record)
        assert numbers.rivals[0].roughness is None
        assert "moothness" not in analysis_of(numbers) and "oughness" not in analysis_of(numbers)
