"""Optuna's TPE for a whole batch: the settings that asking its sampler one by one gives, several times as fast.

Optuna reads every trial again for every setting that it is asked for. In a batch only the settings in training
change, by one a time; so the finished trials are read once here, as arrays, and the estimators are Optuna's own.
What stands here uses parts of Optuna that are not public: `sampler` compares it with the public way before it relies
on it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler

from hpo.trials import Tried

Setting = dict[str, float]
Values = NDArray[np.float64]
BLOCK = 8  # candidates compared with all trials at once


def ask(
    spaces: Mapping[str, BaseDistribution],
    finished: Sequence[Tried],
    pending: Sequence[Setting],
    count: int,
    maximize: bool,
    sampler: TPESampler,
) -> list[Setting]:
    """`count` settings of `sampler`, asked together; each counts as bad for those behind it (constant liar).

    Args:
        spaces: what is tuned: float distributions without steps.
        finished: trials with finite values, no fewer than the sampler's start-up trials; the value of one that was
            pruned may be None.
        pending: settings that are in training. All settings have every name of `spaces`.

    Returns:
        Settings with the names of `spaces`; rounding may put a value just outside of its distribution.
    """
    from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
    from optuna.samplers._tpe.sampler import default_gamma

    names = sorted(spaces)  # Optuna's order: the random numbers are drawn in it
    space, parameters = {name: spaces[name] for name in names}, sampler._parzen_estimator_parameters

    def estimator(settings: Values) -> Any:
        return _ParzenEstimator(dict(zip(names, settings.T, strict=True)), space, parameters)

    known, order = _table([entry.setting for entry in finished], names), best_first(finished, maximize)
    best = default_gamma(len(finished))
    good = estimator(known[np.sort(order[:best])])
    bad = np.concatenate([known[np.sort(order[best:])], _table(pending, names), np.empty((count, len(names)))])
    masses = [_Masses() for _ in names]
    for row in range(len(bad) - count, len(bad)):
        candidates = good.sample(sampler._rng.rng, sampler._n_ei_candidates)
        gain = good.log_pdf(candidates) - _log_density(estimator(bad[:row]), candidates, masses)
        chosen = int(np.argmax(gain))
        bad[row] = [candidates[name][chosen] for name in names]
    return [dict(zip(names, row, strict=True)) for row in bad[len(bad) - count :].tolist()]


def best_first(finished: Sequence[Tried], maximize: bool) -> NDArray[np.int64]:
    """Places in `finished`: trials of full length by value, then pruned ones, the later stopped first, by value."""
    worst = -np.inf if maximize else np.inf
    values = np.array([worst if entry.value is None else entry.value for entry in finished])
    epochs = np.array([np.inf if entry.stopped is None else entry.stopped for entry in finished])
    return np.lexsort((-values if maximize else values, -epochs))


def _table(settings: Sequence[Setting], names: Sequence[str]) -> Values:
    """The settings as an array [settings, names]."""
    return np.array([[setting[name] for name in names] for setting in settings]).reshape(len(settings), len(names))


class _Masses:
    """The logarithms of truncated normals' masses, of which a setting more changes but a few: the slowest part."""

    def __init__(self) -> None:
        self._known = np.empty((3, 0))  # mu, sigma, mass

    def of(self, normal: Any) -> Values:
        from optuna.samplers._tpe._truncnorm import _log_gauss_mass

        found = np.full((3, len(normal.mu)), np.nan)
        found[:2] = normal.mu, normal.sigma
        shared = min(found.shape[1], self._known.shape[1])
        same = np.zeros(found.shape[1], dtype=bool)
        same[:shared] = (found[:2, :shared] == self._known[:2, :shared]).all(axis=0)
        found[2, same] = self._known[2, :shared][same[:shared]]
        mu, sigma = found[:2, ~same]
        found[2, ~same] = _log_gauss_mass((normal.adapted_low - mu) / sigma, (normal.adapted_high - mu) / sigma)
        self._known = found
        return found[2]


def _log_density(estimator: Any, candidates: Mapping[str, Values], masses: Sequence[_Masses]) -> Values:
    """`estimator.log_pdf(candidates)`: a mixture, over all trials, of products of truncated normals.

    It takes a few candidates and one name at a time, in place: arrays of [BLOCK, trials], not of [24, trials, names].
    """
    from optuna.samplers._tpe._truncnorm import _norm_pdf_logC

    mixture = estimator._mixture_distribution
    factors = []
    for values, normal, mass in zip(candidates.values(), mixture.distributions, masses, strict=True):
        points = np.log(values) if normal.is_log else values
        if points.min() < normal.adapted_low or points.max() > normal.adapted_high:  # by rounding: it has no density
            return estimator.log_pdf(candidates)
        factors.append((points[:, None], normal.mu, normal.sigma, mass.of(normal), np.log(normal.sigma)))
    log_weights, found = np.log(mixture.weights), []
    for first in range(0, len(factors[0][0]), BLOCK):
        total: Any = 0.0
        for points, mu, sigma, log_mass, log_sigma in factors:
            part = points[first : first + BLOCK] - mu
            part /= sigma
            np.square(part, out=part)
            part /= -2.0
            for term in (_norm_pdf_logC, log_mass, log_sigma):
                part -= term
            total = np.add(part, total, out=part)
        total += log_weights
        highest = total.max(axis=1)
        total -= highest[:, None]
        found.append(np.log(np.exp(total, out=total).sum(axis=1)) + highest)
    return np.concatenate(found)
