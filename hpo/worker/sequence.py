"""Settings from samplers that do not learn from results: random search, a Sobol sequence, a grid."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler
from optuna.trial import TrialState

from hpo.space import Setting, Space, grid_settings
from hpo.worker.sampler import ask, create, distributions_of, new_study


def sequence(sampler: Any, space: Space, count: int, seed: int, given: Mapping[int, Setting]) -> list[Setting]:
    """The first `count` settings of a tuning run; a longer sequence begins with the same ones.

    Args:
        sampler: "random", "qmc", or {"grid": values by hyperparameter}, which does not depend on the seed.
        given: number in the tuning run → the values that a setting must have; the others are sampled.
    """
    if not isinstance(sampler, str):
        return grid_settings(space, sampler["grid"])[:count]
    if not space.tuned:
        return [{} for _ in range(count)]
    distributions = distributions_of(space)
    study = new_study(_sobol(seed) if sampler == "qmc" else RandomSampler(seed=seed), "maximize")
    # The Sobol sequence learns the space from the first finished trial, and has no values for conditional ones.
    middle = {name: bounds.middle() for name, bounds in space.tuned.items() if name not in space.conditions}
    study.add_trial(create(TrialState.COMPLETE, middle, distributions, value=0.0))
    return [ask(study, space, distributions, given.get(number))[1] for number in range(count)]


def grid_replacement(sampler: Any, space: Space, seed: int) -> Setting:
    """Another setting of the grid, for one that always fails."""
    settings: Sequence[Setting] = grid_settings(space, sampler["grid"])
    return settings[seed % len(settings)]


def _sobol(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return QMCSampler(qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False)
