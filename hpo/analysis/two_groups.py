"""Whether a configuration's reruns lie in two groups, or one lies apart, so that their mean ± SD describes none.

The rule: the n values are sorted and split at their widest gap. With m values in the smaller group, and s the SD within
the two groups (pooled, n − 2 degrees of freedom), the gap has to be wider than (1 + 4 / m + 15 / (n − 4)) · s, and
wider than a smallest gap that matters; where s is 0, only the latter counts. Gaps near the ends are wide by chance: the
m-th gap from the end of an exponential tail has the mean scale / m (Rényi, Acta Math. Acad. Sci. Hung. 4, 1953), hence
4 / m; few values give an unreliable s, hence 15 / (n − 4). The three numbers were chosen by simulation: at most 0.6% of
normal samples of any size satisfy the rule; `hpo bench groups` shows this rate, those of other distributions, and how
often true groups are found.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from hpo.analysis.verdicts import tuning_run_means

MIN_VALUES = 5
Values = Mapping[int, float]


class TwoGroups(NamedTuple):
    """Values in two groups, of which one may be a single value.

    Attributes:
        unit: what has a value: a seed, or a tuning run, whose value is the mean over its seeds.
        lower, upper: the values of both groups by unit, ascending.
        gap: between them; sd_within: the SD within them; both in the unit of the values.
        threshold: how many SDs the gap had to exceed.
    """

    unit: Literal["seed", "tuning run"]
    lower: dict[int, float]
    upper: dict[int, float]
    gap: float
    sd_within: float
    threshold: float

    @property
    def has_single(self) -> bool:
        """Whether a single value lies apart from the others."""
        return 1 in (len(self.lower), len(self.upper))


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
    gaps = np.diff(numbers)
    size = int(np.argmax(gaps)) + 1
    gap, sides = float(gaps[size - 1]), (numbers[:size], numbers[size:])
    sd_within = math.sqrt(sum(float(((side - side.mean()) ** 2).sum()) for side in sides) / (count - 2))
    threshold = 1 + 4 / min(size, count - size) + 15 / (count - 4)
    if not gap > max(threshold * sd_within, smallest_gap):
        return None
    lower, upper = ({key: float(values[key]) for key in side} for side in (units[:size], units[size:]))
    return TwoGroups(unit, lower, upper, gap, sd_within, threshold)
