#!/usr/bin/env bash
# deepsig 1.2.8: `bonferroni_correction` returns corrected p-values at the places of other hypotheses.
#
# Guess: the corrected value at a place is that of the p-value given there, each multiplied by the number of hypotheses;
# deepsig sorts the values first and says that it restores their order. Seen: it applies the order of sorting once more
# instead of undoing it. Two values, or those that are sorted by swapping pairs, come out right; with three the smallest
# may get the largest, so that the clearest result is lost and one that shows nothing is significant. The factors are
# those of Holm's method, N for the smallest value down to 1 for the largest, without its running maximum.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q deepsig==1.2.8 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version
from itertools import permutations

import numpy as np
from deepsig import bonferroni_correction

VALUES = (0.001, 0.02, 0.2, 0.8)


def corrected(values):
    return [round(float(value), 6) for value in bonferroni_correction(np.array(values))]


def expected(values):
    largest_first = sorted(values, reverse=True)
    return [round(value * (largest_first.index(value) + 1), 6) for value in values]


print("deepsig", version("deepsig"))
given = [0.8, 0.001, 0.2]
found = corrected(given)
print("given:", given, "corrected:", found, "in the order of the hypotheses:", expected(given))
assert sorted(found) == sorted(expected(given)), "the factors are others now"
assert found == [0.4, 0.8, 0.003], "each value is at its place now"
assert corrected([0.8, 0.001]) == expected([0.8, 0.001]), "two values are exchanged as well"
assert corrected([0.001, 0.2, 0.8]) == expected([0.001, 0.2, 0.8]), "sorted values are exchanged as well"
wrong = sum(corrected(order) != expected(order) for order in permutations(VALUES))
print(f"orders of four values that are corrected wrongly: {wrong} of 24")
assert wrong == 14, "another number of orders is wrong"
assert corrected([0.021, 0.02, 0.8]) == [0.042, 0.06, 0.8], "there is a running maximum now"
PY
