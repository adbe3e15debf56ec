"""The trials of a tuning run as arrays, to which new ones are added without reading the earlier ones again."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpo.space import Setting
from hpo.trials import FinishedTrial

COMPLETE = -1  # the stopped epoch of a trial that was not pruned


class Observations:
    """Finished trials, and settings in training, as a sampler models them; n trials with d tuned hyperparameters.

    Attributes:
        names: the hyperparameters, in the order of the columns.
        settings: [n, d], as Optuna's distributions represent values (a choice by its number); NaN where a setting does
            not have the hyperparameter.
        values: [n], the score; NaN where a trial has none. stopped: [n], see `FinishedTrial`, or `COMPLETE`.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.distributions, self.names = distributions, list(distributions)
        self._numbers = {
            name: {choice: number for number, choice in enumerate(entry.choices)}
            for name, entry in distributions.items()
            if isinstance(entry, CategoricalDistribution)
        }
        self.settings, self.values = np.empty((0, len(self.names))), np.empty(0)
        self.stopped = np.empty(0, dtype=int)

    def __len__(self) -> int:
        return len(self.values)

    def extend(self, trials: Sequence[FinishedTrial]) -> None:
        """Adds finished trials after those that are known."""
        values = [math.nan if trial.value is None else trial.value for trial in trials]
        stopped = [COMPLETE if trial.stopped_epoch is None else trial.stopped_epoch for trial in trials]
        self.settings = np.concatenate([self.settings, self.rows([trial.setting for trial in trials])])
        self.values = np.concatenate([self.values, np.array(values, dtype=float)])
        self.stopped = np.concatenate([self.stopped, np.array(stopped, dtype=int)])

    def rows(self, settings: Sequence[Setting]) -> np.ndarray:
        """Settings as rows of `settings`."""
        columns = [self._column(name, settings) for name in self.names]
        return np.array(columns, dtype=float).reshape(len(self.names), len(settings)).T

    def common(self) -> list[str]:
        """The hyperparameters that all finished trials have, by name."""
        missing: list[bool] = np.isnan(self.settings).any(axis=0).tolist()  # type: ignore[assignment]
        return sorted(name for name, some in zip(self.names, missing, strict=True) if not some)

    def best(self, count: int, direction: str) -> np.ndarray:
        """The positions of the `count` best trials, in the order of the trials.

        Trials that were not pruned come first, by score, then pruned ones: those stopped later, then by score. Of
        equals the earlier one is better. A trial without a value has the worst finite one, or is the last of those
        stopped at its epoch.
        """
        sign = -1.0 if direction == "maximize" else 1.0
        losses, full = sign * self.values, self.stopped == COMPLETE
        finite = losses[full & np.isfinite(losses)]
        losses[np.isnan(losses)] = math.inf
        losses[full & np.isnan(self.values)] = finite.max() if finite.size else 0.0
        complete, pruned = np.flatnonzero(full), np.flatnonzero(~full)
        best = complete[_lowest(losses[complete], count)]
        if len(best) < count:
            order = np.lexsort([losses[pruned], -self.stopped[pruned]])
            best = np.concatenate([best, pruned[order[: count - len(best)]]])
        return np.sort(best)

    def _column(self, name: str, settings: Sequence[Setting]) -> list[float]:
        if name not in self._numbers:
            return [setting.get(name, math.nan) for setting in settings]  # type: ignore[misc]
        numbers = self._numbers[name]
        return [numbers[setting[name]] if name in setting else math.nan for setting in settings]


def _lowest(losses: np.ndarray, count: int) -> np.ndarray:
    """The positions of the `count` lowest, in ascending order; of equals the first ones."""
    if count < len(losses):
        among = np.flatnonzero(losses <= np.partition(losses, count - 1)[count - 1])
    else:
        among = np.arange(len(losses))
    return among[np.argsort(losses[among], kind="stable")][:count]
