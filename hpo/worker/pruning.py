"""TrialPruner: stops the trials that the study's pruner rejects, each with all its seeds."""

from collections.abc import Mapping, Sequence

from hpo.study.directions import direction_of
from hpo.study.study import Study
from hpo.training.loop import Prune
from hpo.training.recipe import Result
from hpo.trials import TrialCurve
from hpo.worker.score import mean_score, score, score_after, score_of_curve
from hpo.worker.synchronous_pruner import ScoredTrial, SynchronousPruner


class TrialPruner:
    """Prunes the trials of one `Work`, each compared with the others and the earlier ones of the same tuning run."""

    def __init__(
        self, study: Study, classes: int | None, tuning_runs: Sequence[int], curves: Mapping[int, Sequence[TrialCurve]]
    ) -> None:
        """
        Args:
            tuning_runs: the tuning run of every trial. curves: tuning run → its earlier trials, if it has any.
        """
        assert study.pruner is not None
        self.study, self.classes, self._tuning_runs = study, classes, tuning_runs
        self._pruners = {
            tuning_run: SynchronousPruner(
                study.pruner(), direction_of(study), [self._scored(curve) for curve in curves.get(tuning_run, ())]
            )
            for tuning_run in dict.fromkeys(tuning_runs)
        }

    def callback(self, trials: Sequence[int]) -> Prune:
        """The function by which `train` asks which members of a population to stop.

        A trial is not pruned if some of its models are trained in another population. A resumed run first repeats the
        decisions of its earlier epochs, so that the pruner knows them.

        Args:
            trials: the trial of every member of the population.
        """
        members, pruned_epochs = self._complete(trials), 0

        def prune(epoch: int, results: Sequence[Result]) -> set[int]:
            nonlocal pruned_epochs
            stopped: set[int] = set()
            for number in range(pruned_epochs + 1, epoch + 1):
                scores: dict[int, dict[int, float | None]] = {tuning_run: {} for tuning_run in self._pruners}
                for trial, indices in members.items():
                    if number <= (results[indices[0]].stopped_epoch or epoch):
                        runs = [score_after(number, results[index], self.study, self.classes) for index in indices]
                        scores[self._tuning_runs[trial]][trial] = mean_score(runs)
                stopped = {
                    trial for run, pruner in self._pruners.items() for trial in pruner.prune(number, scores[run])
                }
            pruned_epochs = epoch
            return {index for trial in stopped for index in members[trial]}

        return prune

    def finish(self, trials: Sequence[int], results: Sequence[Result]) -> None:
        """Records how the trials of a population ended, for the populations after it."""
        for trial, indices in self._complete(trials).items():
            runs = [results[index] for index in indices]
            value = mean_score([score(run, self.study, self.classes) for run in runs])
            self._pruners[self._tuning_runs[trial]].finish(trial, value, any(run.stopped_epoch for run in runs))

    def _complete(self, trials: Sequence[int]) -> dict[int, list[int]]:
        """Trial → the indices of its models, of trials that have all their models in this population."""
        members: dict[int, list[int]] = {}
        for index, trial in enumerate(trials):
            members.setdefault(trial, []).append(index)
        return {trial: indices for trial, indices in members.items() if len(indices) == self.study.seeds_per_trial}

    def _scored(self, trial: TrialCurve) -> ScoredTrial:
        """The trial's score after each epoch; after it diverged, that of a diverged run."""
        scores = [score_of_curve(trial.curve[:epoch], self.study) for epoch in range(1, len(trial.curve) + 1)]
        return ScoredTrial(scores + [trial.value] * (trial.epochs - len(scores)), trial.value, trial.pruned)
