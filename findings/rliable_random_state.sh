#!/usr/bin/env bash
# rliable 1.2.0: `random_state`, which "ensures reproducibility in uncertainty estimates", has no effect on intervals.
#
# Guess: two calls with RandomState(0) give the same interval, and arch, whose bootstrap rliable extends, does so. Seen:
# rliable draws its resamples from NumPy's global generator. Every call gives another interval, also of one process, and
# only `numpy.random.seed` makes them repeatable; the RandomState that was given is never asked for a number.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q rliable==1.2.0 arch==7.2.0 numpy==2.3.5 scipy==1.16.3 pandas==2.3.3
"$folder/venv/bin/python" -W ignore::FutureWarning - <<'PY'
from importlib.metadata import version

import numpy as np
from arch.bootstrap import IIDBootstrap
from rliable import library, metrics

scores = np.random.default_rng(0).normal(size=(5, 10))  # [runs, tasks]
others = np.random.default_rng(1).normal(size=(5, 10))


def interval(state, method="percentile"):
    _, found = library.get_interval_estimates(
        {"sam": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), method, reps=500, random_state=state
    )
    return found["sam"].ravel()


def improvement(state):
    _, found = library.get_interval_estimates(
        {"sam against adam": (scores, others)}, metrics.probability_of_improvement, reps=200, random_state=state
    )
    return found["sam against adam"].ravel()


print("rliable", version("rliable"), "arch", version("arch"))
state = np.random.RandomState(0)
before = state.get_state()[1].copy(), state.get_state()[2]
intervals = [interval(state), interval(np.random.RandomState(0)), interval(np.random.RandomState(0))]
print("intervals of the interquartile mean with RandomState(0):", *(each.round(4) for each in intervals))
assert len({tuple(each) for each in intervals}) == 3, "two intervals are equal"
assert np.array_equal(state.get_state()[1], before[0]) and state.get_state()[2] == before[1], "the state was used"
for compute in (interval, improvement, lambda given: interval(given, "bca")):
    first, second = compute(np.random.RandomState(0)), compute(np.random.RandomState(0))
    assert not np.array_equal(first, second), "random_state is used now"
    np.random.seed(1)
    first = compute(np.random.RandomState(0))
    np.random.seed(1)
    assert np.array_equal(first, compute(np.random.RandomState(2))), "something else is random as well"
arch = [
    IIDBootstrap(scores, random_state=np.random.RandomState(0)).conf_int(metrics.aggregate_iqm, reps=500)
    for _ in range(2)
]
print("intervals of arch's own bootstrap:", *(each.ravel().round(4) for each in arch))
assert np.array_equal(*arch), "arch does not repeat either"
PY
