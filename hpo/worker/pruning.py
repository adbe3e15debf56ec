"""TrialPruner: stops trials that the study's pruner gives up, a trial with all its seeds."""

from collections.abc import Mapping, Sequence

from hpo.study.definition import direction_of
from hpo.study.study import Study
from hpo.training.loop import Prune
from hpo.training.recipe import Result
from hpo.trials import TrialCurve
from hpo.worker.score import score, score_after, score_of_curve
from hpo.worker.synchronous_pruner import ScoredTrial, SynchronousPruner


class TrialPruner:
    """The trials of one piece of work, each against the others and the earlier ones of the same tuning run."""

    def __init__(
        self, study: Study, classes: int, tuning_runs: Sequence[int], past: Mapping[int, Sequence[TrialCurve]]
    ) -> None:
        """
        Args:
            tuning_runs: the tuning run of every trial. past: the earlier trials of each tuning run that has any.
        """
        assert study.pruner is not None
        self.study, self.classes, self._tuning_runs = study, classes, tuning_runs
        self._rungs = {
            tuning_run: SynchronousPruner(
                study.pruner(), direction_of(study), [self._scored(entry) for entry in past.get(tuning_run, ())]
            )
            for tuning_run in dict.fromkeys(tuning_runs)
        }

    def prune(self, owners: Sequence[int]) -> Prune:
        """What tells `train` whom to stop in a population of models that belong to these trials.

        A trial of which some models are trained elsewhere is left alone. A run that goes on from a checkpoint is
        judged after all epochs before as well, so that the pruner has seen them; what it says there is over.
        """
        members, judged = self._whole(owners), 0

        def prune(epoch: int, results: Sequence[Result]) -> set[int]:
            nonlocal judged
            lost: set[int] = set()
            for number in range(judged + 1, epoch + 1):
                scores: dict[int, dict[int, float | None]] = {tuning_run: {} for tuning_run in self._rungs}
                for owner, places in members.items():
                    if number <= (results[places[0]].stopped_epoch or epoch):
                        found = [score_after(number, results[place], self.study, self.classes) for place in places]
                        scores[self._tuning_runs[owner]][owner] = _mean(found)
                lost = {
                    owner
                    for tuning_run, rungs in self._rungs.items()
                    for owner in rungs.prune(number, scores[tuning_run])
                }
            judged = epoch
            return {place for owner in lost for place in members[owner]}

        return prune

    def finish(self, owners: Sequence[int], results: Sequence[Result]) -> None:
        """Notes how the trials of a population ended, for the populations behind it."""
        for owner, places in self._whole(owners).items():
            runs = [results[place] for place in places]
            value = _mean([score(run, self.study, self.classes) for run in runs])
            self._rungs[self._tuning_runs[owner]].finish(owner, value, any(run.stopped_epoch for run in runs))

    def _whole(self, owners: Sequence[int]) -> dict[int, list[int]]:
        """The places of each trial's models, of trials that have all of them here."""
        places: dict[int, list[int]] = {}
        for place, owner in enumerate(owners):
            places.setdefault(owner, []).append(place)
        return {owner: own for owner, own in places.items() if len(own) == self.study.seeds_per_trial}

    def _scored(self, past: TrialCurve) -> ScoredTrial:
        """By its scores; from the epoch on in which it diverged, that of a diverged run."""
        scores = [score_of_curve(past.curve[:epoch], self.study) for epoch in range(1, len(past.curve) + 1)]
        return ScoredTrial(scores + [past.value] * (past.epochs - len(scores)), past.value, past.pruned)


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if len(known) == len(scores) else None
