"""Performance profiles after Dolan and Moré (2002), with time to a target as AlgoPerf (2023) measures it."""

import math
from collections.abc import Mapping, Sequence
from statistics import median, median_low
from typing import NamedTuple

import pandas as pd

from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.analysis.selection import rerun_curves

WORST = 4.0  # the largest ratio that a profile is drawn and scored to
SHOWN = (1.0, 1.5, 2.0, 4.0)  # the ratios that the table shows


class TimeToTarget(NamedTuple):
    """One study's times to its target.

    Attributes:
        metric: the tuning score, by epoch on validation data. target: what has to be reached.
        epochs: configuration → epochs until then, the lower median over its reruns; infinite where it is never reached.
        ratios: epochs divided by the fewest epochs of any configuration; infinite where nobody reaches the target.
    """

    study: str
    metric: str
    target: float
    epochs: dict[str, float]
    ratios: dict[str, float]


class Profile(NamedTuple):
    """One configuration over all races.

    Attributes:
        shares: (τ, share of the studies with a ratio of at most τ) for the τ of `SHOWN`.
        score: the area below the profile from 1 to `WORST`, divided by the width: 1 is first everywhere.
    """

    name: str
    ratios: dict[str, float]
    shares: list[tuple[float, float]]
    score: float


def time_to_target(record: Record, numbers: StudyNumbers, names: Sequence[str]) -> TimeToTarget | None:
    """How fast the configurations `names` reach the baseline's last score; None before all of them have been rerun.

    The target is the median over the baseline's reruns of the score at their last epoch. A rerun that diverged, failed
    for good or never reaches the target takes infinitely long.
    """
    metric, sign = numbers.definition["score"], 1.0 if numbers.definition["direction"] == "maximize" else -1.0
    curves = rerun_curves(record, metric)
    reruns = {entry.name: entry.reruns for entry in numbers.configurations}
    if not all(reruns[name].finished + len(reruns[name].failed_seeds) for name in names):
        return None
    own = curves[curves.configuration == numbers.baseline.name]
    own = own[~own.seed.isin(reruns[numbers.baseline.name].diverged_seeds)]
    if own.empty:
        return None
    last = own.loc[own.groupby("seed")["epoch"].idxmax(), "value"]
    target = float(median(last.tolist()))
    reached = curves[sign * curves["value"] >= sign * target].groupby(["configuration", "seed"])["epoch"].min()
    epochs = {}
    for name in names:
        lost = {*reruns[name].diverged_seeds, *reruns[name].failed_seeds}
        seeds = [*reruns[name].test_accuracy, *reruns[name].failed_seeds]
        times = [math.inf if seed in lost else float(reached.get((name, seed), math.inf)) for seed in seeds]
        epochs[name] = median_low(times)
    return TimeToTarget(numbers.study["name"], metric, target, epochs, _ratios(epochs))


def profile(races: Sequence[TimeToTarget], names: Sequence[str]) -> list[Profile]:
    """The profile of every configuration over one race or more."""
    profiles = []
    for name in names:
        ratios = {race.study: race.ratios[name] for race in races}
        shares = [(limit, _share(ratios, limit)) for limit in SHOWN]
        # Each study adds the width that is left of the area from its ratio on.
        area = sum(max(0.0, WORST - ratio) for ratio in ratios.values()) / len(ratios)
        profiles.append(Profile(name, ratios, shares, area / (WORST - 1)))
    return profiles


def steps(profiles: Sequence[Profile]) -> pd.DataFrame:
    """The profiles as lines that rise in steps: columns configuration, ratio, share, from 1 to `WORST`."""
    rows = []
    for entry in profiles:
        inner = sorted({ratio for ratio in entry.ratios.values() if 1 < ratio < WORST})
        rows += [(entry.name, limit, _share(entry.ratios, limit)) for limit in [1.0, *inner, WORST]]
    return pd.DataFrame(rows, columns=["configuration", "ratio", "share"])


def _ratios(epochs: Mapping[str, float]) -> dict[str, float]:
    """Times in units of the shortest; those that tie for it all have 1."""
    fewest = min(epochs.values())
    return {name: time / fewest if math.isfinite(time) else math.inf for name, time in epochs.items()}


def _share(ratios: Mapping[str, float], limit: float) -> float:
    return sum(ratio <= limit for ratio in ratios.values()) / len(ratios)
