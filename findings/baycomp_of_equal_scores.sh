#!/usr/bin/env bash
# baycomp 1.0.3: of two models whose scores are equal on every data set, the Bayesian signed-rank test says that the
# first is better with a probability of about 0.7.
#
# Guess: 0.5 for each, or no answer, as by the sign test of the same package (NaN). Seen: each draw from the posterior
# is a tie, 0.5 against 1 - 0.5; the sum of its weights is off by a rounding error, which decides, and a draw without
# such an error counts for the first model. `two_on_multiple` without a rope returns three probabilities; its
# documentation has two.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q baycomp==1.0.3 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import baycomp
import numpy as np

print("baycomp", version("baycomp"), "numpy", np.__version__)
for sets in (5, 10, 30):
    first = np.random.default_rng(sets).random(sets)
    second = first.copy()
    left, rope, right = baycomp.two_on_multiple(first, second, nsamples=20000, random_state=0)
    print(f"equal scores on {sets} data sets: first better {left:.3f}, second better {right:.3f}; sign test",
          baycomp.SignTest.probs(first, second, random_state=0))
    assert left > 0.6 and right < 0.4 and rope == 0, "equal scores are a tie now"

first = np.random.default_rng(0).random(10)
second = first + 0.1
left, _, right = baycomp.two_on_multiple(first, second, nsamples=20000, random_state=0)
print(f"the second better by 0.1 on each of 10 data sets: {left:.3f}, {right:.3f}")
assert right > 0.999, "the test does not find a clear difference"
PY
