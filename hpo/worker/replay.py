"""Samplers that keep a state from trial to trial, such as CMA-ES: the tuning run is replayed in memory."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler
from optuna.trial import TrialState

from hpo.errors import UsageError
from hpo.space import Setting, Space
from hpo.trials import FinishedTrial
from hpo.worker.sampler import ask, create, distributions_of, new_study, worst_value

MakeSampler = Callable[..., BaseSampler]


class Replay:
    """One tuning run: asks for the settings of its batches in order, and tells their results before the next one.

    The settings follow from the seed and the results, so that every worker that replays the run gets the same.
    """

    def __init__(
        self, make: MakeSampler, space: Space, direction: str, seed: int, given: Mapping[int, Setting], generation: int
    ) -> None:
        """
        Args:
            make: called with seed=…; returns the sampler. given: slot → the values that its setting must have.
            generation: the size of the batches of CMA-ES.
        """
        self._space, self._direction, self._given = space, direction, given
        self._distributions = distributions_of(space)
        self._study = new_study(make_sampler(make, seed, generation), direction)
        if make is cmaes:  # it learns its ranges from finished trials, of which it needs no other to begin
            middle = {name: bounds.middle() for name, bounds in space.tuned.items() if name not in space.conditions}
            self._study.add_trial(create(TrialState.COMPLETE, middle, self._distributions, value=0.0))
        self._asked: dict[int, tuple[optuna.Trial, Setting]] = {}  # slot → its trial, of the newest batch
        self._told: list[FinishedTrial] = []

    def settings(self, finished: Sequence[FinishedTrial], slots: range) -> list[Setting]:
        """The settings of a batch after these finished trials of all batches before it.

        Raises:
            ValueError: they do not continue those of the last call; a new replay has to begin from the first batch.
        """
        if list(finished[: len(self._told)]) != self._told:
            raise ValueError("other results")
        if list(self._asked) != list(slots):
            if self._asked and min(self._asked) >= slots.start:
                raise ValueError("an earlier batch")
            for _, batch in groupby(finished[len(self._told) :], lambda trial: trial.batch):
                self._tell(list(batch))
            self._asked = self._ask(slots)
        return [setting for _, setting in self._asked.values()]

    def _ask(self, slots: Sequence[int]) -> dict[int, tuple[optuna.Trial, Setting]]:
        return {slot: ask(self._study, self._space, self._distributions, self._given.get(slot)) for slot in slots}

    def _tell(self, batch: list[FinishedTrial]) -> None:
        slots = [trial.slot for trial in batch]
        asked = self._asked if list(self._asked) == slots else self._ask(slots)
        worst = worst_value([*self._told, *batch], self._direction)
        for finished in batch:
            trial, setting = asked[finished.slot]
            value = worst if finished.value is None else finished.value
            if finished.setting != setting:  # a replacement, or a setting that a person enqueued
                self._study.tell(trial, state=TrialState.FAIL)
                if finished.stopped_epoch is None and value is not None:
                    added = create(TrialState.COMPLETE, finished.setting, self._distributions, value=value)
                    self._study.add_trial(added)
            elif finished.stopped_epoch is None:
                # A value told to Optuna is final: without any score yet, it could turn out better than real ones.
                self._study.tell(trial, value, TrialState.FAIL if value is None else TrialState.COMPLETE)
            else:
                trial.report(math.nan if finished.value is None else finished.value, finished.stopped_epoch)
                self._study.tell(trial, state=TrialState.PRUNED)
        self._told += batch
        self._asked = {}


def cmaes(seed: int, generation: int) -> BaseSampler:
    """CMA-ES with a generation per batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return CmaEsSampler(seed=seed, popsize=generation, n_startup_trials=1, warn_independent_sampling=False)


def make_sampler(make: MakeSampler, seed: int, generation: int) -> BaseSampler:
    """The sampler of a study.

    Raises:
        UsageError: the user's function does not return a sampler of Optuna.
    """
    if make is cmaes:
        return cmaes(seed, generation)
    try:
        sampler: Any = make(seed=seed)
    except (TypeError, ImportError) as error:
        raise UsageError(f"sampler: the function, called as sampler(seed={seed}), fails: {_one_line(error)}") from error
    if not isinstance(sampler, BaseSampler):
        raise UsageError(f"sampler: the function returns {sampler!r}; return a sampler of Optuna")
    return sampler


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
