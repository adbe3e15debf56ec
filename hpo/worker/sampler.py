"""Samples settings with Optuna's TPE in memory, without a database."""

import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.search_space import Range
from hpo.trials import STARTUP_TRIALS, FinishedTrial

optuna.logging.set_verbosity(optuna.logging.WARNING)

Setting = dict[str, float]


def sample(
    ranges: Mapping[str, Range],
    finished: Sequence[FinishedTrial],
    pending: Sequence[Setting],
    count: int,
    direction: str,
    seed: int,
) -> list[Setting]:
    """Samples `count` settings as one batch; the same arguments always give the same settings.

    The first `STARTUP_TRIALS` settings of a study are random; then TPE models the finished trials. Settings in
    training count as bad (constant liar), so that the settings of a batch differ.

    Args:
        ranges: the tuned hyperparameters. Without any, every setting is empty.
        finished: finished trials in a fixed order. A trial without a value that was not pruned counts as the worst
            finite value.
        pending: settings in training. All settings have the names of `ranges`.
        direction: "maximize" or "minimize".
    """
    if not ranges:
        return [{} for _ in range(count)]
    spaces: dict[str, BaseDistribution] = {name: interval.distribution() for name, interval in ranges.items()}
    worst = _worst([trial.value for trial in finished if trial.stopped_epoch is None], direction)
    sampler = TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)
    study = optuna.create_study(direction=StudyDirection[direction.upper()], sampler=sampler)
    known = [_optuna_trial(trial, worst, spaces) for trial in finished]
    known += [create_trial(state=TrialState.RUNNING, params=setting, distributions=spaces) for setting in pending]
    study.add_trials(known)
    # exp(log(x)) may leave the range by a rounding error.
    return [
        {name: min(max(float(params[name]), interval.low), interval.high) for name, interval in ranges.items()}
        for params in (study.ask(spaces).params for _ in range(count))
    ]


def _optuna_trial(trial: FinishedTrial, worst: float, spaces: dict[str, BaseDistribution]) -> FrozenTrial:
    """The finished trial for Optuna; one without a value has the worst value if complete, and NaN if pruned."""
    setting, value, stopped = trial
    if stopped is None:
        value = worst if value is None else value
        return create_trial(state=TrialState.COMPLETE, params=setting, distributions=spaces, value=value)
    reported = {stopped: math.nan if value is None else value}
    return create_trial(state=TrialState.PRUNED, params=setting, distributions=spaces, intermediate_values=reported)


def _worst(values: Sequence[float | None], direction: str) -> float:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return (min if direction == "maximize" else max)(finite, default=0.0)
