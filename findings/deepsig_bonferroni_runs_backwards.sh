#!/usr/bin/env bash
# deepsig 1.2.8 (almost stochastic order): its Bonferroni correction becomes weaker with every further comparison, and
# `multi_aso` with two models finds no difference, however far apart their scores are.
#
# Guess: with M comparisons the confidence level is 1 - 0.05 / M, so that the bound on the violation ratio, which has to
# be below a threshold, grows with M. Seen: the level is 0.95 + 0.05 / M. That is right for two comparisons; for ten it
# is 0.955 instead of 0.995, and the more comparisons, the closer the bound is to the one without a correction. For one
# comparison, as `multi_aso` makes of two models, it is 1, and the bound is 1, or NaN where all bootstrap samples agree.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q deepsig==1.2.8 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from deepsig import aso, multi_aso

generator = np.random.default_rng(2)
baseline, better = generator.normal(0, 1, 10), generator.normal(0.6, 1, 10)
OPTIONS = {"show_progress": False, "seed": 1, "num_bootstrap_iterations": 200}


def bound(level, comparisons=1):
    return float(aso(better, baseline, confidence_level=level, num_comparisons=comparisons, **OPTIONS))


print("deepsig", version("deepsig"))
bounds = {comparisons: bound(0.95, comparisons) for comparisons in (1, 2, 3, 10, 100)}
print("bound on the violation ratio by number of comparisons:", {key: round(value, 3) for key, value in bounds.items()})
assert bounds[2] > bounds[3] > bounds[10] > bounds[100] > bounds[1], "more comparisons raise the bound now"
for comparisons in (2, 10):
    assert np.isclose(bounds[comparisons], bound(0.95 + 0.05 / comparisons)), "the level is computed in another way"
print(f"for 10 comparisons with a level of 1 - 0.05 / 10: {bound(0.995):.3f}")
assert np.isclose(bounds[2], bound(1 - 0.05 / 2)) and bounds[10] + 0.05 < bound(1 - 0.05 / 10), "10 are corrected"

apart = {"better": generator.normal(0.6, 1, 30), "baseline": generator.normal(-0.6, 1, 30)}
alone = float(aso(*apart.values(), **OPTIONS))
two = multi_aso(apart, **OPTIONS)
third = multi_aso(apart | {"third": generator.normal(0, 1, 30)}, **OPTIONS)
print(f"two models 1.2 SDs apart: aso {alone:.3f}, multi_aso {two[0, 1]:.3f}, with a third model {third[0, 1]:.3f}")
assert alone < 0.2 and third[0, 1] < 0.2, "the models are too close"
assert two[0, 1] == two[1, 0] == 1, "two models are compared now"
assert multi_aso(apart, use_bonferroni=False, **OPTIONS)[0, 1] < 0.2, "it is not the correction"
PY
