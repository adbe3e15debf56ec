#!/usr/bin/env bash
# Optuna 5.0.0: `enqueue_trial(..., skip_if_exists=True)` drops a setting whose integer differs from that of an earlier
# trial by less than one part in 100,000: 200,001 steps after 200,000.
#
# Guess: floats are compared with a tolerance, as a database may round them, and integers exactly. Seen: both go through
# `numpy.isclose`, and of five consecutive seeds near a million one is kept, without a message. So it
# is with seeds or step counts as the choices of a categorical parameter; texts of the same digits are all kept.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q optuna==5.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import warnings

import optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)
SEEDS = range(1_000_000, 1_000_005)


def kept(values, suggest, skip=True):
    study = optuna.create_study()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for value in values:
            study.enqueue_trial({"value": value}, skip_if_exists=skip)
    assert not [each for each in caught if "exist" in str(each.message)], "it says now what it drops"
    study.optimize(lambda trial: suggest(trial), n_trials=len(study.trials))
    return [trial.params["value"] for trial in study.trials]


def integer(trial):
    return trial.suggest_int("value", 1, 10_000_000)


def choice(trial):
    return float(trial.suggest_categorical("value", list(SEEDS)))


def text(trial):
    return float(trial.suggest_categorical("value", [str(seed) for seed in SEEDS]))


print("optuna", optuna.__version__)
print("steps:", kept([200_000, 200_001, 200_003], integer), "of 200000, 200001, 200003")
assert kept([200_000, 200_001, 200_003], integer) == [200_000, 200_003], "another tolerance"
assert kept([10, 11, 99_999], integer) == [10, 11, 99_999], "small integers are dropped as well"
assert kept(SEEDS, integer, skip=False) == list(SEEDS), "they are dropped without skip_if_exists"
print(f"seeds as integers: {kept(SEEDS, integer)}, as choices: {kept(SEEDS, choice)} of {list(SEEDS)}")
assert kept(SEEDS, integer) == kept(SEEDS, choice) == [SEEDS[0]], "integers are compared exactly now"
assert kept([str(seed) for seed in SEEDS], text) == [str(seed) for seed in SEEDS], "texts are dropped as well"
PY
