"""Optuna's TPE for a whole batch: the numbers that asking its sampler one by one gives, without an object a trial.

Optuna reads every trial again for every setting that it is asked for. In a batch only the settings in training
change, by one a time; so the finished trials are read once here, as arrays, and the estimators are Optuna's own.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler

Setting = dict[str, float]


def ask(
    spaces: Mapping[str, BaseDistribution],
    finished: Sequence[tuple[Setting, float]],
    pending: Sequence[Setting],
    count: int,
    maximize: bool,
    sampler: TPESampler,
) -> list[Setting]:
    """`count` settings of `sampler`, asked together; each counts as bad for those behind it (constant liar).

    It uses parts of Optuna that are not public: `sampling` compares it with the public way before relying on it.

    Args:
        spaces: what is tuned: float distributions.
        finished: settings with finite values, no fewer than the sampler's start-up trials.
        pending: settings that are in training. All settings have every name of `spaces`.

    Returns:
        Settings with the names of `spaces`; rounding may put a value just outside of its distribution.
    """
    from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
    from optuna.samplers._tpe.sampler import default_gamma

    names = sorted(spaces)  # Optuna's order: the random numbers are drawn in it
    space, parameters = {name: spaces[name] for name in names}, sampler._parzen_estimator_parameters

    def estimator(settings: NDArray[np.float64]) -> _ParzenEstimator:
        return _ParzenEstimator(dict(zip(names, settings.T, strict=True)), space, parameters)

    known = _table([setting for setting, _ in finished], names)
    values = np.array([value for _, value in finished])
    order = np.argsort(-values if maximize else values, kind="stable")
    best = default_gamma(len(finished))
    good = estimator(known[np.sort(order[:best])])
    bad = np.concatenate([known[np.sort(order[best:])], _table(pending, names), np.empty((count, len(names)))])
    for row in range(len(bad) - count, len(bad)):
        candidates = good.sample(sampler._rng.rng, sampler._n_ei_candidates)
        gain = good.log_pdf(candidates) - estimator(bad[:row]).log_pdf(candidates)
        chosen = int(np.argmax(gain))
        bad[row] = [candidates[name][chosen] for name in names]
    return [dict(zip(names, row, strict=True)) for row in bad[len(bad) - count :].tolist()]


def _table(settings: Sequence[Setting], names: Sequence[str]) -> NDArray[np.float64]:
    """The settings as an array [settings, names]."""
    return np.array([[setting[name] for name in names] for setting in settings]).reshape(len(settings), len(names))
