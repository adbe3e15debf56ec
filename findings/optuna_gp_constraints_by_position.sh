#!/usr/bin/env bash
# Optuna 5.0.0: GPSampler tells the constraints of `Trial.set_constraint(name, value)` apart by the order in which a trial
# sets them, not by their names. Where trials set the same constraints in different orders, all its suggestions may break
# them, without a word.
#
# Guess: a constraint's name says which one it is, as in `trial.constraints`, a dictionary, and in NSGAIISampler, which
# compares the names. Seen: one Gaussian process is fitted to the first constraint of each trial and one to the second, so
# that both are fitted to mixtures of "memory" and "time". Set in one order, the sampler reaches the constrained optimum
# in two trials and stays; with the order swapped in every second trial it never suggests a feasible setting. The order
# differs in practice where a constraint is set in a branch or a loop over a set, or where the storage keeps no order.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q optuna==5.0.0 torch==2.13.0 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import warnings

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import GPSampler

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
SPACE = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
RANDOM, SUGGESTED = 20, 6
OPTIMUM = (0.6, 0.5)  # of x + y, to be maximized, where x <= 0.6 and y <= 0.5


def constraints(setting, swapped):
    both = [("memory", 10 * (setting["x"] - 0.6)), ("time", setting["y"] - 0.5)]
    return dict(reversed(both) if swapped else both)


def suggested(swap):
    """SUGGESTED settings after RANDOM ones; with swap every second trial sets its constraints the other way round."""
    study = optuna.create_study(direction="maximize", sampler=GPSampler(seed=0, deterministic_objective=True))
    for number, point in enumerate(np.random.default_rng(0).uniform(size=(RANDOM, 2))):
        setting = dict(zip("xy", point.tolist(), strict=True))
        given = constraints(setting, swap and number % 2)
        study.add_trial(
            optuna.create_trial(params=setting, distributions=SPACE, value=sum(setting.values()), constraints=given)
        )
    settings = []
    for number in range(SUGGESTED):
        trial = study.ask(SPACE)
        for name, value in constraints(trial.params, swap and number % 2).items():
            trial.set_constraint(name, value)
        study.tell(trial, sum(trial.params.values()))
        settings.append((trial.params["x"], trial.params["y"]))
    for trial in study.trials:
        assert trial.constraints == constraints(trial.params, swapped=False), "the trials have the same constraints"
    return np.array(settings)


print("optuna", optuna.__version__)
same, swapped = suggested(False), suggested(True)
for name, settings in (("one order", same), ("two orders", swapped)):
    feasible = int(((settings[:, 0] <= OPTIMUM[0]) & (settings[:, 1] <= OPTIMUM[1])).sum())
    print(f"{name}: {feasible} of {SUGGESTED} suggestions feasible, the last one", settings[-1].round(3).tolist())
assert np.abs(same[2:] - OPTIMUM).max() < 0.01, "in one order the sampler finds the constrained optimum"
assert (swapped[:, 1] > OPTIMUM[1] + 0.1).all(), "in two orders it finds feasible settings now"
PY
