"""The importances of hyperparameters are those that Optuna computes."""

import math

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from synthetic_record import synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.report.figure_plan import plan_figures
from hpo.report.tuning_frames import importance_frame, importances, scored_trials
from hpo.search_space import linear_range, log_range

RANGES = {"strength": log_range(1e-4, 1), "momentum": linear_range(0, 1), "idle": linear_range(-1, 1)}


def test_importances_are_optunas() -> None:
    generator = np.random.default_rng(0)
    study = optuna.create_study(direction="minimize")
    trials = []
    for _ in range(120):
        setting = {
            "strength": float(10 ** generator.uniform(-4, 0)),
            "momentum": float(generator.uniform()),
            "idle": float(generator.uniform(-1, 1)),
        }
        value = (math.log10(setting["strength"]) + 2) ** 2 + 0.3 * setting["momentum"]
        trials.append({"setting": {**setting, "not tuned": 1.0}, "score": value})
        distributions = {name: bounds.distribution() for name, bounds in RANGES.items()}
        study.add_trial(optuna.create_trial(params=setting, distributions=distributions, value=value))
    actual = importances(pd.DataFrame(trials), RANGES, "minimize")
    assert actual == pytest.approx(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))
    assert actual is not None and actual["strength"] > 0.5 and list(actual) == list(RANGES)


def test_importances_are_computed_for_each_tuning_run() -> None:
    """Adding a constant to the scores of one tuning run changes nothing; pooled, its trials would be the best."""
    record = synthetic_record(trials=60)
    record.study["tuning_runs"] = 3
    record.slots["tuning_run"] = record.slots["slot"] % 3
    plain = importance_frame(record, scored_trials(record))
    record.slots.loc[record.slots["tuning_run"] == 1, "value"] += 10
    shifted = importance_frame(record, scored_trials(record))
    assert shifted.importance.tolist() == pytest.approx(plain.importance.tolist()) and len(plain) == 5
    record.slots["tuning_run"] = 0
    pooled = importance_frame(record, scored_trials(record))
    assert pooled.importance.tolist() != pytest.approx(plain.importance.tolist(), rel=0.05)


def test_a_single_hyperparameter_has_no_relative_importance() -> None:
    record = synthetic_record(trials=60)
    record.study["definition"]["configurations"][0]["space"] = {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "off": None}
    }
    assert set(importance_frame(record, scored_trials(record)).configuration) == {"GNVR"}
    figure = plan_figures(record, compute_numbers(record))[-1]
    assert figure.chart is not None and "AdamW" in figure.caption
    record.study["definition"]["configurations"].pop()
    figure = plan_figures(record, compute_numbers(record))[-1]
    assert figure.chart is None and "AdamW" in figure.caption
