"""Whether a configuration's reruns fall into two groups, so that their mean ± SD describes neither.

The rule: the values are sorted and split at a gap. With m values in the smaller group, but at most 10, and s the SD
within the two groups (pooled, n − 2 degrees of freedom), there are two groups if the largest m · gap / s of all gaps
exceeds 20 + 50 / (n − 2), and this gap is wider than a smallest difference that matters. Gaps near the ends are wide by
chance: the m-th gap from the end of an exponential tail has the mean scale / m (Rényi, Acta Math. Acad. Sci. Hung. 4,
1953), hence the factor m; as it is at most 10, groups are always more than two SDs apart. The threshold is above the
99% quantile of this statistic for 5 to 400 normal values, and for t (5 degrees of freedom), exponential and log-normal
(σ = 0.5) ones; `hpo bench groups` shows the rates.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from hpo.analysis.verdicts import tuning_run_means

MIN_VALUES = 5
MAX_FACTOR = 10
Values = Mapping[int, float]


class TwoGroups(NamedTuple):
    """Values in two groups.

    Attributes:
        unit: what has a value: a seed, or a tuning run, whose value is the mean over its seeds.
        lower, upper: the values of both groups by unit, ascending.
        statistic: the largest m · gap / s, infinite or huge where the values within both groups are equal.
        threshold: what it exceeds.
    """

    unit: Literal["seed", "tuning run"]
    lower: dict[int, float]
    upper: dict[int, float]
    statistic: float
    threshold: float


def groups_of_reruns(
    values: Values, tuning_run_by_seed: Mapping[int, int], tuning_runs: int, smallest_gap: float
) -> TwoGroups | None:
    """The two groups of tuning runs, or else of seeds; None where there is one group.

    The seeds of a tuning run share its setting and are alike: a gap between the seeds of different tuning runs may be
    one between few settings. With several tuning runs only a gap between seeds of the same one makes groups of seeds.

    Args:
        values: by seed. smallest_gap: a narrower gap is not reported; in the unit of the values.
    """
    finite = {seed: value for seed, value in values.items() if math.isfinite(value)}
    if tuning_runs == 1:
        return find_two_groups(finite, smallest_gap, "seed")
    means = tuning_run_means(finite, tuning_run_by_seed)
    if groups := find_two_groups(means, smallest_gap, "tuning run"):
        return groups
    groups = find_two_groups(finite, smallest_gap, "seed")
    if groups is None:
        return None
    sides = [{tuning_run_by_seed[seed] for seed in side} for side in (groups.lower, groups.upper)]
    return groups if sides[0] & sides[1] else None


def find_two_groups(
    values: Values, smallest_gap: float = 0.0, unit: Literal["seed", "tuning run"] = "seed"
) -> TwoGroups | None:
    """Applies the rule to independent finite values; fewer than five have one group."""
    count = len(values)
    if count < MIN_VALUES:
        return None
    units = sorted(values, key=lambda key: (values[key], key))
    numbers = np.array([values[key] for key in units], dtype=float)
    gaps, sizes = np.diff(numbers), np.arange(1, count)
    within = _squares(numbers) + _squares(-numbers[::-1])[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.minimum(np.minimum(sizes, count - sizes), MAX_FACTOR)
        statistics = factors * gaps / np.sqrt(within / (count - 2))
    statistics[gaps <= smallest_gap] = 0.0
    size, threshold = int(np.argmax(statistics)) + 1, 20 + 50 / (count - 2)
    if not statistics[size - 1] > threshold:
        return None
    lower, upper = ({key: float(values[key]) for key in side} for side in (units[:size], units[size:]))
    return TwoGroups(unit, lower, upper, float(statistics[size - 1]), threshold)


def _squares(numbers: np.ndarray) -> np.ndarray:
    """The sums of squared deviations from their mean of the first 1, 2, … n − 1 of n numbers."""
    centred, sizes = numbers - numbers.mean(), np.arange(1, numbers.size)
    sums, squares = np.cumsum(centred)[:-1], np.cumsum(centred**2)[:-1]
    return np.maximum(squares - sums**2 / sizes, 0.0)
