"""TPE on arrays: the settings of Optuna's TPESampler in a fraction of its time where there are very many trials."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.samplers import TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator

from hpo.space import Setting, Space
from hpo.worker.observations import Observations
from hpo.worker.parzen import log_density

CANDIDATES = 24  # of which the most promising one becomes the setting


class Tpe:
    """Samples settings one after the other; each counts as bad for the next ones (the constant liar).

    TPE (Bergstra et al. 2011, NeurIPS) models the best trials and all others by two densities of the settings. It draws
    candidates from the first, and chooses the one at which the first is largest relative to the second.
    """

    def __init__(self, known: Observations, pending: Sequence[Setting], direction: str, seed: int) -> None:
        """
        Args:
            known: `STARTUP_TRIALS` finished trials or more. pending: settings in training.
        """
        self._known = known
        self._parameters = TPESampler(seed=seed)._parzen_estimator_parameters
        self._random = np.random.RandomState(seed)
        self._common = known.common()
        self._best = known.best(min(math.ceil(len(known) / 10), 25), direction)
        self._others = np.concatenate([np.delete(known.settings, self._best, axis=0), known.rows(pending)])

    def ask(self, space: Space, given: Setting | None = None) -> Setting:
        """The next setting, with these values where any are given."""
        given = given or {}
        together = self._suggest(self._common)
        raw: dict[str, Any] = {}
        setting: Setting = {}
        for name in [*(name for name in space.tuned if name not in space.conditions), *space.conditions]:
            if space.exists(name, setting):
                raw[name] = given[name] if name in given else self._value(name, together)
                setting[name] = space.tuned[name].restrict(raw[name])
        self._others = np.concatenate([self._others, self._known.rows([together | raw])])
        return {name: setting[name] for name in space.tuned if name in setting}

    def _value(self, name: str, together: Mapping[str, Any]) -> Any:
        entry = self._known.distributions[name]
        # A number that a rounding error puts outside the range is sampled once more.
        if name in together and entry._contains(entry.to_internal_repr(together[name])):
            return together[name]
        return self._suggest([name])[name]

    def _suggest(self, names: list[str]) -> dict[str, Any]:
        """Values of hyperparameters from the trials that have all of them."""
        if not names:
            return {}
        entries = {name: self._known.distributions[name] for name in names}
        columns = [self._known.names.index(name) for name in names]
        best, others = (
            rows[~np.isnan(rows).any(axis=1)]
            for rows in (self._known.settings[self._best][:, columns], self._others[:, columns])
        )
        good = _ParzenEstimator(dict(zip(names, best.T, strict=True)), entries, self._parameters)
        candidates = good.sample(self._random, CANDIDATES)
        points = np.array([candidates[name] for name in names]).T
        with np.errstate(invalid="ignore"):  # a candidate outside its range by a rounding error
            ratios = good.log_pdf(candidates) - log_density(points, others, list(entries.values()))
        chosen = points[np.argmax(ratios)]
        return {name: entries[name].to_external_repr(value.item()) for name, value in zip(names, chosen, strict=True)}
