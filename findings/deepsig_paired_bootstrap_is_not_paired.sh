#!/usr/bin/env bash
# deepsig 1.2.8: `bootstrap_test`, a "paired bootstrap test", draws the scores of both algorithms independently.
#
# Guess: pairs are resampled, so that what two algorithms share (seed, split, fold) cancels, as in `permutation_test` of
# the same package. Seen: each side is resampled on its own. Where the difference is the same for every seed and the seeds
# differ by more, the permutation test and a bootstrap of the differences are certain and `bootstrap_test` finds
# nothing; its p-value stays the same if the scores of one algorithm are shuffled among the seeds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q deepsig==1.2.8 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from deepsig import bootstrap_test, permutation_test
from scipy.stats import ttest_rel

generator = np.random.default_rng(0)
SEEDS = 12
by_seed = generator.normal(90, 2, SEEDS)  # percent; easy and hard seeds
baseline = by_seed + generator.normal(0, 0.1, SEEDS)
better = by_seed + 0.6 + generator.normal(0, 0.1, SEEDS)

differences = better - baseline
resampled = generator.choice(differences, (10_000, SEEDS)).mean(1)
of_pairs = float((resampled >= 2 * differences.mean()).mean())
found = bootstrap_test(better, baseline, seed=1)
shuffled = bootstrap_test(better, generator.permutation(baseline), seed=1)
permuted = permutation_test(better, baseline, seed=1)
t_test = ttest_rel(better, baseline, alternative="greater").pvalue
print("deepsig", version("deepsig"))
print(f"{SEEDS} seeds, each 0.6 points better: bootstrap_test p = {found:.3f}, with shuffled seeds {shuffled:.3f}")
print(f"permutation_test {permuted:.3f}, bootstrap of the differences {of_pairs:.3f}, paired t test {t_test:.1e}")
assert permuted < 0.01 and of_pairs < 0.001 and t_test < 1e-6, "the difference is not clear"
assert found > 0.05, "the pairs are resampled together now"
assert abs(found - shuffled) < 0.03, "the pairs matter now"
PY
