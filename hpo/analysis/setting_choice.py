"""Which of the settings that a configuration's tuning runs chose is the one to use, by validation data only.

Tuning runs have different seeds, and so different validation samples and label noise: an easy seed raises all scores
of its tuning run. The score of a best trial is also too good, since the luckiest of many trials is chosen. The scores
of the reruns, minus the mean over the configurations with the same seeds, are free of both.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from hpo.analysis.paired_tests import Direction

Scores = Mapping[str, Mapping[int, float]]  # configuration → seed or tuning run → score; NaN where there is none
Compared = Literal["reruns", "trials"]


class SettingChoice(NamedTuple):
    """How a configuration's tuning runs compare, of which the best one has the setting to use.

    Attributes:
        tuning_run: the one with the setting to use, the first of equal ones; None before a trial has a score.
        compared: by what: the mean score of the tuning run's reruns, or, unless all of them are finished and one has a
            score, the score of its best trial.
        relative: whether the mean over the configurations is subtracted.
        scores: tuning run → what is compared; NaN where no rerun has a score.
        lost: tuning run → the share of its reruns without a score, because they diverged or failed; tuning runs with a
            larger one come last.
    """

    tuning_run: int | None
    compared: Compared
    relative: bool
    scores: dict[int, float]
    lost: dict[int, float]

    def rank(self, tuning_run: int, direction: Direction) -> tuple[float, ...]:
        """The sort key of tuning runs, best first, also of those of several configurations of a study."""
        score = self.scores[tuning_run] * (-1 if direction == "maximize" else 1)
        by_trials = self.compared == "trials"
        return by_trials, self.lost[tuning_run], math.inf if math.isnan(score) else score, tuning_run


def choose_settings(
    trials: Scores, reruns: Scores, tuning_run_by_seed: Mapping[int, int], direction: Direction
) -> dict[str, SettingChoice]:
    """Configuration → its choice.

    What is subtracted is the mean over those configurations that have a score for every seed, the same ones in all
    tuning runs: one that diverged somewhere would otherwise raise the others' rank in the tuning runs where it is bad,
    or lower it where it is missing. With fewer than two of them nothing is subtracted.

    Args:
        trials: configuration → tuning run → score of its best trial. reruns: configuration → seed → score, of the
            configurations whose trials and reruns are all finished.
    """
    means = {"reruns": _means(reruns), "trials": _means(trials)}
    run_of = {"reruns": tuning_run_by_seed, "trials": {run: run for best in trials.values() for run in best}}
    choices = {}
    for name, best in trials.items():
        own = reruns.get(name, {})
        compared: Compared = "reruns" if any(map(math.isfinite, own.values())) else "trials"
        subtracted, differences = means[compared], {run: list[float]() for run in best}
        for seed, score in (own if compared == "reruns" else best).items():
            if (run := run_of[compared][seed]) in best:  # no trial of another one has a score
                differences[run].append(score - subtracted.get(seed, 0.0))
        scores = {run: _mean(values) for run, values in differences.items()}
        lost = {run: float(np.mean(np.isnan(values))) if values else 1.0 for run, values in differences.items()}
        choice = SettingChoice(None, compared, bool(subtracted), scores, lost)
        first = min(scores, key=lambda run: choice.rank(run, direction), default=None)
        choices[name] = choice._replace(tuning_run=first)
    return choices


def _means(scores: Scores) -> dict[int, float]:
    """Seed → mean over the configurations that have a score for every seed; empty with fewer than two of them."""
    seeds = sorted({seed for own in scores.values() for seed in own})
    complete = [own for own in scores.values() if all(math.isfinite(own.get(seed, math.nan)) for seed in seeds)]
    return {seed: float(np.mean([own[seed] for own in complete])) for seed in seeds} if len(complete) > 1 else {}


def _mean(scores: Sequence[float]) -> float:
    """The mean of the finite ones, without digits that rounding has left; NaN without any."""
    finite = [score for score in scores if math.isfinite(score)]
    return round(float(np.mean(finite)), 12) if finite else math.nan
