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
    """A finished trial: its score after each epoch (None if it had none), the last one, and whether it was pruned."""

    scores: Sequence[float | None]
    value: float | None
    pruned: bool


class SynchronousPruner:
    """An Optuna study in memory whose trials report epoch by epoch, all together.

    Optuna's successive halving notes that a trial has reached a rung when it decides about that trial, not when the
    trial reports, so that the first trial would compete with none. Here every trial is decided as if it were the last.
    """

    def __init__(self, pruner: BasePruner, direction: str, earlier: Sequence[ScoredTrial] = ()) -> None:
        """
        Args:
            pruner: an Optuna pruner; it may be asked twice about the same epoch. direction: "maximize" or "minimize".
            earlier: earlier trials of the same tuning run, which compete as well.

        Raises:
            UsageError: it is no pruner.
        """
        if not isinstance(pruner, BasePruner):
            raise UsageError(
                f"pruner returns {pruner!r}; give SuccessiveHalving(...) or a function that returns an Optuna pruner"
            )
        self._storage, self._pruner = _SnapshotStorage(), pruner
        self._study = optuna.create_study(
            storage=self._storage, study_name="rungs", direction=StudyDirection[direction.upper()], pruner=pruner
        )
        self._ids: dict[Hashable, int] = {}
        trials = {("earlier", number): trial for number, trial in enumerate(earlier)}
        for epoch in range(1, max((len(trial.scores) for trial in earlier), default=0) + 1):
            present = {key: trial.scores[epoch - 1] for key, trial in trials.items() if epoch <= len(trial.scores)}
            self.prune(epoch, present)
        for key, trial in trials.items():
            self.finish(key, trial.value, trial.pruned)

    def prune(self, epoch: int, scores: Mapping[Any, float | None]) -> set[Any]:
        """Reports the scores of the trials in training after an epoch; returns the trials to stop."""
        for trial, score in scores.items():
            self._storage.set_trial_intermediate_value(self._id(trial), epoch, math.nan if score is None else score)
        snapshots = {trial: self._storage.get_trial(self._id(trial)) for trial in scores}
        notes = self._storage.notes
        stopped = {trial for trial, snapshot in snapshots.items() if self._pruner.prune(self._study, snapshot)}
        if self._storage.notes > notes:  # now every trial has its notes: decide again, each without its own
            stopped = {trial for trial, snapshot in snapshots.items() if self._prune_as_last(snapshot)}
        return stopped

    def finish(self, trial: Hashable, value: float | None, pruned: bool) -> None:
        """Records how a trial ended; a value that is not finite counts as none."""
        values = [value] if value is not None and math.isfinite(value) else None
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE if values else TrialState.FAIL
        self._storage.set_trial_state_values(self._id(trial), state, values)

    def _prune_as_last(self, snapshot: FrozenTrial) -> bool:
        self._storage.snapshot = snapshot
        try:
            return self._pruner.prune(self._study, snapshot)
        finally:
            self._storage.snapshot = None

    def _id(self, trial: Hashable) -> int:
        if trial not in self._ids:
            self._ids[trial] = self._storage.create_new_trial(self._study._study_id)
        return self._ids[trial]


class _SnapshotStorage(InMemoryStorage):
    """Optuna's storage in memory, which shows one trial as it was before the pruner noted anything about it.

    Attributes:
        snapshot: that trial, or None. notes: how many attributes pruners have set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.snapshot: FrozenTrial | None = None
        self.notes = 0

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.notes += 1
        super().set_trial_system_attr(trial_id, key, value)

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        trials, snapshot = super().get_all_trials(study_id, deepcopy, states), self.snapshot
        return [snapshot if snapshot and trial.number == snapshot.number else trial for trial in trials]
