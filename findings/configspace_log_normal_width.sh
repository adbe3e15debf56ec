#!/usr/bin/env bash
# ConfigSpace 1.2.2: the width of a normal distribution on a log scale is |ln(lower + sigma)|, where `lower` is the
# lower end of the range. A larger sigma may give a narrower distribution, and a learning rate from 1e-4 to 1 with
# sigma=1 is a constant.
#
# Guess: sigma is the standard deviation of the logarithm, or else of the value; in any case a larger sigma is wider.
# Seen: around mu=0.01 the standard deviation of the logarithm is 2.2 for sigma=0.1, 0.7 for 0.5, 0.0001 for 1 and again
# 0.7 for 2. All draws with sigma=1 lie between 0.009995 and 0.010005; nothing warns of it. Without the log scale sigma
# is what it says. `Float(..., distribution=Normal(mu, sigma), log=True)`, which states prior knowledge to optimizers such
# as SMAC, is the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ConfigSpace==1.2.2 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PY'
import math
from importlib.metadata import version

import numpy as np
from ConfigSpace import ConfigurationSpace, Float, Normal
from scipy.stats import truncnorm

DRAWS = 5000
LOWER, UPPER, MU = 1e-4, 1.0, 0.01


def draws(sigma, log):
    space = ConfigurationSpace(seed=0)
    space.add(Float("learning_rate", (LOWER, UPPER), distribution=Normal(MU, sigma), log=log))
    return np.array([configuration["learning_rate"] for configuration in space.sample_configuration(DRAWS)])


def truncated_deviation(mean, deviation, low, high):
    """The standard deviation of a normal distribution that is cut off at low and high."""
    return truncnorm.std((low - mean) / deviation, (high - mean) / deviation, mean, deviation)


print("ConfigSpace", version("ConfigSpace"))
linear = draws(0.1, log=False).std()
expected = truncated_deviation(MU, 0.1, LOWER, UPPER)
assert abs(linear / expected - 1) < 0.05, "without a log scale sigma is the standard deviation of the value"

widths = {}
for sigma in (0.1, 0.5, 1.0, 2.0):
    widths[sigma] = np.log(draws(sigma, log=True)).std()
    guess = truncated_deviation(math.log(MU), sigma, math.log(LOWER), math.log(UPPER))
    seen = abs(math.log(LOWER + sigma))
    explained = truncated_deviation(math.log(MU), seen, math.log(LOWER), math.log(UPPER))
    print(f"sigma {sigma}: standard deviation of the logarithm {widths[sigma]:.4f}; sigma would give {guess:.4f}")
    assert abs(widths[sigma] / explained - 1) < 0.05, "the width is not |ln(lower + sigma)| any more"

assert widths[0.1] > widths[0.5] > widths[1.0] < widths[2.0], "a larger sigma is wider now"
constant = draws(1.0, log=True)
print(f"{DRAWS} draws with sigma 1 lie between {constant.min():.6f} and {constant.max():.6f}")
assert abs(constant / MU - 1).max() < 5e-4, "sigma=1 is no constant any more"
PY
