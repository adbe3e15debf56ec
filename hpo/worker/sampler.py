"""Samples settings with Optuna's TPE in memory, without a database."""

import math
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.space import Setting, Space
from hpo.trials import STARTUP_TRIALS, FinishedTrial

optuna.logging.set_verbosity(optuna.logging.WARNING)

Distributions = dict[str, BaseDistribution]


def sample(
    space: Space,
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
        space: without tuned hyperparameters every setting is empty. One that exists in some settings only is sampled
            there, from the trials that have it.
        finished: finished trials in a fixed order. A trial without a value that was not pruned counts as the worst
            finite value.
        pending: settings in training.
        direction: "maximize" or "minimize".
    """
    if not space.tuned:
        return [{} for _ in range(count)]
    distributions: Distributions = {name: bounds.distribution() for name, bounds in space.tuned.items()}
    worst = _worst([trial.value for trial in finished if trial.stopped_epoch is None], direction)
    sampler = TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)
    study = optuna.create_study(direction=StudyDirection[direction.upper()], sampler=sampler)
    known = [_optuna_trial(trial, worst, distributions) for trial in finished]
    known += [_create(TrialState.RUNNING, setting, distributions) for setting in pending]
    study.add_trials(known)
    return [_ask(study, space, distributions) for _ in range(count)]


def _ask(study: optuna.Study, space: Space, distributions: Distributions) -> Setting:
    """The next setting, with the hyperparameters that exist in it."""
    always = {name: entry for name, entry in distributions.items() if name not in space.conditions}
    trial = study.ask(always)
    setting = {name: space.tuned[name].restrict(trial.params[name]) for name in always}
    for name in space.conditions:
        if space.exists(name, setting):
            setting[name] = space.tuned[name].restrict(_suggest(trial, name, distributions[name]))
    return setting


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _create(state: TrialState, setting: Setting, distributions: Distributions, **result: Any) -> FrozenTrial:
    present = {name: distributions[name] for name in setting}
    return create_trial(state=state, params=setting, distributions=present, **result)


def _optuna_trial(trial: FinishedTrial, worst: float, distributions: Distributions) -> FrozenTrial:
    """The finished trial for Optuna; one without a value has the worst value if complete, and NaN if pruned."""
    setting, value, stopped = trial
    if stopped is None:
        value = worst if value is None else value
        return _create(TrialState.COMPLETE, setting, distributions, value=value)
    reported = {stopped: math.nan if value is None else value}
    return _create(TrialState.PRUNED, setting, distributions, intermediate_values=reported)


def _worst(values: Sequence[float | None], direction: str) -> float:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return (min if direction == "maximize" else max)(finite, default=0.0)
