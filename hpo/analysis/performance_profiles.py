"""Performance profiles after Dolan and Moré (2002), with time to a target as AlgoPerf (2023) measures it."""

import math
from collections.abc import Sequence
from statistics import median, median_low
from typing import NamedTuple

import pandas as pd

from hpo.analysis.metric import Metric, score_of
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.analysis.selection import rerun_curves

MAX_RATIO = 4.0  # the largest ratio in the figure and in the score
TABLE_RATIOS = (1.0, 1.5, 2.0, 4.0)


class TimeToTarget(NamedTuple):
    """The times to the target of one study.

    Attributes:
        metric: the tuning score, by epoch on validation data. target: the value to reach.
        epochs: configuration → epochs until then, the lower median over its reruns; infinite where never reached.
        ratios: epochs divided by the fewest epochs of any configuration; infinite where never reached.
    """

    study: str
    metric: Metric
    target: float
    epochs: dict[str, float]
    ratios: dict[str, float]


class Profile(NamedTuple):
    """The performance profile of one configuration over several studies.

    Attributes:
        ratios: by study. shares: (τ, share of the studies with a ratio of at most τ) for the τ of `TABLE_RATIOS`.
        score: the mean height of the profile from τ = 1 to `MAX_RATIO`; 1 means the fastest in every study.
    """

    name: str
    ratios: dict[str, float]
    shares: list[tuple[float, float]]
    score: float

    def share(self, ratio: float) -> float:
        """The share of the studies with a ratio of at most `ratio`."""
        return sum(entry <= ratio for entry in self.ratios.values()) / len(self.ratios)


def time_to_target(record: Record, numbers: StudyNumbers, names: Sequence[str]) -> TimeToTarget | None:
    """How fast the configurations `names` reach the baseline's last score; None before all of them have been rerun.

    The target is the median over the baseline's reruns of the score at their last epoch. A rerun that diverged, failed
    for good or never reaches the target takes infinitely long.
    """
    metric = score_of(numbers.definition)
    sign = 1.0 if metric.direction == "maximize" else -1.0
    curves = rerun_curves(record, metric.name)
    reruns = {entry.name: entry.reruns for entry in numbers.configurations}
    if not all(reruns[name].finished + len(reruns[name].failed_seeds) for name in names):
        return None
    baseline = curves[curves.configuration == numbers.baseline.name]
    baseline = baseline[~baseline.seed.isin(numbers.baseline.reruns.diverged_seeds)]
    if baseline.empty:
        return None
    last = baseline.loc[baseline.groupby("seed")["epoch"].idxmax(), "value"]
    target = float(median(last.tolist()))
    reached = curves[sign * curves["value"] >= sign * target].groupby(["configuration", "seed"])["epoch"].min()
    epochs = {}
    for name in names:
        lost = {*reruns[name].diverged_seeds, *reruns[name].failed_seeds}
        seeds = [*reruns[name].metric_values, *reruns[name].failed_seeds]
        times = [math.inf if seed in lost else float(reached.get((name, seed), math.inf)) for seed in seeds]
        epochs[name] = median_low(times)
    fewest = min(epochs.values())
    ratios = {name: time / fewest if math.isfinite(time) else math.inf for name, time in epochs.items()}
    return TimeToTarget(numbers.study["name"], metric, target, epochs, ratios)


def performance_profiles(times: Sequence[TimeToTarget], names: Sequence[str]) -> list[Profile]:
    """The profile of every configuration over one study or more."""
    profiles = []
    for name in names:
        profile = Profile(name, {entry.study: entry.ratios[name] for entry in times}, [], 0.0)
        # A study adds the width from its ratio to the largest one to the area under the profile.
        area = sum(max(0.0, MAX_RATIO - ratio) for ratio in profile.ratios.values()) / len(times)
        shares = [(ratio, profile.share(ratio)) for ratio in TABLE_RATIOS]
        profiles.append(profile._replace(shares=shares, score=area / (MAX_RATIO - 1)))
    return profiles


def profile_steps(profiles: Sequence[Profile]) -> pd.DataFrame:
    """The profiles as step functions: columns configuration, ratio, share, from ratio 1 to `MAX_RATIO`."""
    steps = []
    for profile in profiles:
        inner = sorted({ratio for ratio in profile.ratios.values() if 1 < ratio < MAX_RATIO})
        steps += [(profile.name, ratio, profile.share(ratio)) for ratio in [1.0, *inner, MAX_RATIO]]
    return pd.DataFrame(steps, columns=["configuration", "ratio", "share"])
