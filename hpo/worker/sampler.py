"""Samples settings from results with Optuna in memory, without a database."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.search_space import choice, integers, linear_range, log_range, when
from hpo.space import Setting, Space, split_space
from hpo.trials import STARTUP_TRIALS, FinishedTrial
from hpo.worker.observations import Observations

optuna.logging.set_verbosity(optuna.logging.WARNING)

MANY = 100  # finished trials from which TPE on arrays saves more than its comparison with Optuna's costs
Distributions = dict[str, BaseDistribution]


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)


def _gaussian_process(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False)


_SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "gp": _gaussian_process,
    "random": lambda seed: RandomSampler(seed=seed),
}


def sample(
    space: Space,
    finished: Sequence[FinishedTrial],
    pending: Sequence[Setting],
    count: int,
    direction: str,
    seed: int,
    sampler: str = "tpe",
    given: Mapping[int, Setting] = MappingProxyType({}),
    known: Observations | None = None,
) -> list[Setting]:
    """Samples `count` settings as one batch from results; the same arguments always give the same settings.

    The first `STARTUP_TRIALS` settings of a study are random; then the sampler models the finished trials. Settings in
    training count as bad (TPE's constant liar) or as open (the Gaussian process), so that those of a batch differ.

    Args:
        space: without tuned hyperparameters every setting is empty. One that exists in some settings only is sampled
            there, from the trials that have it.
        finished: finished trials in a fixed order. A trial without a value that was not pruned counts as the worst
            finite value.
        pending: settings in training.
        direction: "maximize" or "minimize".
        sampler: "tpe", "gp", or "random", which models nothing.
        given: number in the batch → the values that a setting must have; the others are sampled.
        known: the finished trials as arrays, if there are any already.
    """
    if not space.tuned:
        return [{} for _ in range(count)]
    if sampler == "tpe" and len(finished) >= MANY and _arrays_agree():
        return _sample_from_arrays(space, finished, pending, count, direction, seed, given, known)
    return sample_with_optuna(space, finished, pending, count, direction, seed, sampler, given)


def sample_with_optuna(
    space: Space,
    finished: Sequence[FinishedTrial],
    pending: Sequence[Setting],
    count: int,
    direction: str,
    seed: int,
    sampler: str,
    given: Mapping[int, Setting] = MappingProxyType({}),
) -> list[Setting]:
    """As `sample`, by Optuna's own samplers only."""
    distributions = distributions_of(space)
    worst = worst_value(finished, direction) or 0.0
    study = new_study(_SAMPLERS[sampler](seed), direction)
    known = [_optuna_trial(trial, worst, distributions) for trial in finished]
    known += [create(TrialState.RUNNING, setting, distributions) for setting in pending]
    study.add_trials(known)
    return [ask(study, space, distributions, given.get(number))[1] for number in range(count)]


def _sample_from_arrays(
    space: Space,
    finished: Sequence[FinishedTrial],
    pending: Sequence[Setting],
    count: int,
    direction: str,
    seed: int,
    given: Mapping[int, Setting],
    known: Observations | None = None,
) -> list[Setting]:
    """As `sample` for TPE, in a fraction of the time where there are very many trials."""
    if known is None:
        known = Observations(distributions_of(space))
        known.extend(finished)
    from hpo.worker.tpe import Tpe  # needs SciPy, which small studies do not

    tpe = Tpe(known, pending, direction, seed)
    return [tpe.ask(space, given.get(number)) for number in range(count)]


@cache
def _arrays_agree() -> bool:
    """Whether TPE on arrays gives the settings of the TPESampler of the installed Optuna, checked once a process."""
    entries = {
        "rate": log_range(1e-4, 1e-1),
        "width": integers(4, 64, log=True),
        "kind": choice("a", "b", "c"),
        "share": when("kind", ("a", "b"), linear_range(0.0, 1.0)),
    }
    space = split_space(entries)
    settings = sample_with_optuna(space, [], [], 40, "maximize", 0, "random")
    finished = [
        FinishedTrial(setting, -abs(math.log10(setting["rate"]) + 2), 3 if slot % 4 == 0 else None)  # type: ignore[arg-type]
        for slot, setting in enumerate(settings)
    ]
    case = (space, finished, settings[:2], 4, "maximize", 0)
    try:
        return _sample_from_arrays(*case, {}) == sample_with_optuna(*case, "tpe")
    except (AttributeError, ImportError, TypeError):  # parts of Optuna that are not its public interface have changed
        return False


def new_study(sampler: BaseSampler, direction: str) -> optuna.Study:
    """An empty study in memory."""
    return optuna.create_study(direction=StudyDirection[direction.upper()], sampler=sampler)


def distributions_of(space: Space) -> Distributions:
    """The distribution of every tuned hyperparameter."""
    return {name: bounds.distribution() for name, bounds in space.tuned.items()}


def ask(
    study: optuna.Study, space: Space, distributions: Distributions, given: Setting | None = None
) -> tuple[optuna.Trial, Setting]:
    """The next trial and its setting, with the hyperparameters that exist in it and the values given."""
    if given:
        study.enqueue_trial(given)
    always = {name: entry for name, entry in distributions.items() if name not in space.conditions}
    trial = study.ask(always)
    setting = {name: space.tuned[name].restrict(trial.params[name]) for name in always}
    for name in space.conditions:
        if space.exists(name, setting):
            setting[name] = space.tuned[name].restrict(_suggest(trial, name, distributions[name]))
    return trial, {name: setting[name] for name in space.tuned if name in setting}


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def create(state: TrialState, setting: Setting, distributions: Distributions, **result: Any) -> FrozenTrial:
    """A trial with the hyperparameters of a setting."""
    present = {name: distributions[name] for name in setting}
    return create_trial(state=state, params=setting, distributions=present, **result)


def _optuna_trial(trial: FinishedTrial, worst: float, distributions: Distributions) -> FrozenTrial:
    """The finished trial for Optuna; one without a value has the worst value if complete, and NaN if pruned."""
    setting, value, stopped = trial.setting, trial.value, trial.stopped_epoch
    if stopped is None:
        value = worst if value is None else value
        return create(TrialState.COMPLETE, setting, distributions, value=value)
    reported = {stopped: math.nan if value is None else value}
    return create(TrialState.PRUNED, setting, distributions, intermediate_values=reported)


def worst_value(finished: Sequence[FinishedTrial], direction: str) -> float | None:
    """The worst finite value of the trials that were not pruned; None without any."""
    values = [trial.value for trial in finished if trial.stopped_epoch is None]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return (min if direction == "maximize" else max)(finite, default=None)
