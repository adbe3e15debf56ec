"""An Optuna pruner for trials that train side by side: it decides once all of them have reported an epoch."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.pruners import BasePruner
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.errors import UsageError

optuna.logging.set_verbosity(optuna.logging.WARNING)


class ScoredTrial(NamedTuple):
    """A trial that has ended: its scores by epoch (None where it had none), the last one, and whether it was pruned."""

    scores: Sequence[float | None]
    value: float | None
    stopped: bool


class SynchronousPruner:
    """A study of Optuna's in memory whose trials report in step.

    Optuna's successive halving notes that a trial has reached a rung when the trial is judged there, not when it
    reports, so that who is judged first would compete with nobody. Here every trial is judged as if it were the last.
    """

    def __init__(self, pruner: BasePruner, direction: str, past: Sequence[ScoredTrial] = ()) -> None:
        """
        Args:
            pruner: of Optuna's; it may be asked twice about the same epoch. direction: "maximize" or "minimize".
            past: earlier trials of the same tuning run, against which the present ones compete.

        Raises:
            UsageError: it is no pruner.
        """
        if not isinstance(pruner, BasePruner):
            raise UsageError(
                f"pruner makes {pruner!r}; give SuccessiveHalving(...) or a function that returns a pruner of Optuna's"
            )
        self._storage, self._pruner = _SnapshotStorage(), pruner
        self._study = optuna.create_study(
            storage=self._storage, study_name="rungs", direction=StudyDirection[direction.upper()], pruner=pruner
        )
        self._trials: dict[Hashable, int] = {}
        for epoch in range(1, max((len(entry.scores) for entry in past), default=0) + 1):
            self.prune(epoch, {
                (number,): entry.scores[epoch - 1] for number, entry in enumerate(past) if epoch <= len(entry.scores)
            })  # fmt: skip
        for number, entry in enumerate(past):
            self.finish((number,), entry.value, entry.stopped)

    def prune(self, epoch: int, scores: Mapping[Any, float | None]) -> set[Any]:
        """Reports the scores of the trials in training after an epoch; returns those that are to be stopped."""
        for trial, score in scores.items():
            self._storage.set_trial_intermediate_value(self._id(trial), epoch, math.nan if score is None else score)
        before = {trial: self._storage.get_trial(self._id(trial)) for trial in scores}
        written = self._storage.written
        lost = {trial for trial, own in before.items() if self._pruner.prune(self._study, own)}
        if self._storage.written > written:  # by now all have; each is asked again, without what it wrote itself
            lost = {trial for trial, own in before.items() if self._asked_last(own)}
        return lost

    def finish(self, trial: Hashable, value: float | None, stopped: bool) -> None:
        """Notes how a trial ended; a value that is not finite is none."""
        values = [value] if value is not None and math.isfinite(value) else None
        state = TrialState.PRUNED if stopped else TrialState.COMPLETE if values else TrialState.FAIL
        self._storage.set_trial_state_values(self._id(trial), state, values)

    def _asked_last(self, own: FrozenTrial) -> bool:
        self._storage.judged = own
        try:
            return self._pruner.prune(self._study, own)
        finally:
            self._storage.judged = None

    def _id(self, trial: Hashable) -> int:
        if trial not in self._trials:
            self._trials[trial] = self._storage.create_new_trial(self._study._study_id)
        return self._trials[trial]


class _SnapshotStorage(InMemoryStorage):
    """Optuna's storage in memory, which shows a trial that is judged as it was before.

    Attributes:
        judged: that trial. written: how often a pruner has noted something about a trial.
    """

    def __init__(self) -> None:
        super().__init__()
        self.judged: FrozenTrial | None = None
        self.written = 0

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.written += 1
        super().set_trial_system_attr(trial_id, key, value)

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        found = super().get_all_trials(study_id, deepcopy, states)
        judged = self.judged
        return [judged if judged and trial.number == judged.number else trial for trial in found]
