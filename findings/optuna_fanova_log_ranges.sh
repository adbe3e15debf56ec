#!/usr/bin/env bash
# Optuna 5.0.0: the importances of FanovaImportanceEvaluator take no account of log=True. A learning rate that decides
# nearly everything may have an importance of 3%.
#
# Guess: fANOVA averages over the search space as it was declared, so that each decade of a log range counts the same, and
# a learning rate has the importance that its logarithm has. Seen: it averages uniformly over the values themselves, of
# which nine tenths lie in the uppermost decade. Here a network does not learn at learning rates below 1e-4, which is a
# fifth of the log range from 1e-5 to 1 and a hundredth of a percent of the values; 98% of the variance of the very same
# trials' losses comes from this. With the range declared as log10 of the learning rate, fANOVA finds these 98%, and so
# does MeanDecreaseImpurityImportanceEvaluator, which uses the trials alone, either way.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q optuna==5.0.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, MeanDecreaseImpurityImportanceEvaluator, get_param_importances

optuna.logging.set_verbosity(optuna.logging.WARNING)
TRIALS = 500
exponents, momenta = np.random.default_rng(0).uniform((-5, 0), (0, 1), (TRIALS, 2)).T
losses = (exponents < -4) + 0.2 * momenta
print("optuna", optuna.__version__)


def importance(values, learning_rate, evaluator):
    study = optuna.create_study()
    distributions = {"learning_rate": learning_rate, "momentum": FloatDistribution(0, 1)}
    for value, momentum, loss in zip(values, momenta, losses, strict=True):
        params = {"learning_rate": float(value), "momentum": float(momentum)}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=float(loss)))
    return float(get_param_importances(study, evaluator=evaluator)["learning_rate"])


def share(weights):
    """The learning rate's share of the variance of the loss, which is a sum, where its decades have these weights."""
    below = weights[0]
    variance = below * (1 - below)
    return variance / (variance + 0.2**2 / 12)


decades = 10.0 ** np.arange(-5, 1)
by_log, by_value = share(np.full(5, 1 / 5)), share(np.diff(decades) / (1 - 1e-5))
print(f"share of the variance: {by_log:.3f} uniformly over the logarithm, {by_value:.3f} uniformly over the values")
found = {}
for evaluator in (FanovaImportanceEvaluator(seed=0), MeanDecreaseImpurityImportanceEvaluator(seed=0)):
    name = type(evaluator).__name__
    found[name] = (
        importance(10**exponents, FloatDistribution(1e-5, 1, log=True), evaluator),
        importance(exponents, FloatDistribution(-5, 0), evaluator),
    )
    print(f"{name}: {found[name][0]:.3f} with log=True, {found[name][1]:.3f} of the logarithm")
log_true, logarithm = found["FanovaImportanceEvaluator"]
assert abs(logarithm - by_log) < 0.02, "of the logarithm fANOVA finds the share of the variance"
assert log_true < 0.1 and abs(log_true - by_value) < 0.05, "fANOVA takes account of log=True now"
assert all(abs(value - by_log) < 0.03 for value in found["MeanDecreaseImpurityImportanceEvaluator"])
PY
