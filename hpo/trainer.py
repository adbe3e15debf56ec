"""From leased work to outcomes: the bridge between the ledger's words and the training's."""

import math
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch

from hpo.checkpoints import Checkpoints, RunKeeper, resume
from hpo.data import Source
from hpo.definition import direction_of, full_space, loss_of, optimizer_of, regularizer_of
from hpo.errors import UsageError
from hpo.ledger import Outcome, Slot, Work
from hpo.schedules import Constant
from hpo.space import split_space
from hpo.study import Configuration, Study
from hpo.training import Member, Progress, Recipe, Result, train

EpochDone = Callable[[Work, int, int], None]


class Trainer:
    """Trains the slots of one `Work` side by side; what `run_worker` calls."""

    def __init__(
        self,
        study: Study,
        device: torch.device | str,
        on_epoch: EpochDone | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """
        Args:
            on_epoch: told (work, epoch from 1, epochs) after every epoch.
            checkpoints: where runs are kept while they last, and taken up from.
        """
        self.study = study
        self.device = torch.device(device)
        self.on_epoch = on_epoch
        self.checkpoints = checkpoints

    @cached_property
    def source(self) -> Source:
        """The study's data set, loaded once."""
        return self.study.data.load()

    def __call__(self, work: Work) -> Sequence[Outcome]:
        """One outcome a slot, in order.

        Raises:
            TimeoutError: the population took longer than the study's `trial_timeout`; seen at the end of an epoch.
        """
        if self.checkpoints is None:
            return self._train(work, None)
        outcomes: dict[int, Outcome] = {}
        for places, keeper in resume(self.checkpoints, self._paths(work)):
            part = work.only([work.slots[place] for place in places])
            outcomes |= {outcome.id: outcome for outcome in self._train(part, keeper)}
        return [outcomes[slot.id] for slot in work.slots]

    def forget(self, work: Work) -> None:
        """Deletes the checkpoints of work whose outcomes are stored."""
        if self.checkpoints is not None:
            for path in self._paths(work):
                self.checkpoints.forget(path)

    def _paths(self, work: Work) -> list[Path]:
        assert self.checkpoints is not None
        name = work.configuration
        members = [self.member(name, slot) for slot in work.slots]
        return [self.checkpoints.path(name, work.phase, own.seed, own.hyperparameters) for own in members]

    def _train(self, work: Work, keeper: RunKeeper | None) -> list[Outcome]:
        rerun = work.phase == "rerun"
        recipe = self.recipe(self.configuration(work.configuration), rerun)
        members = [self.member(work.configuration, slot) for slot in work.slots]

        start = time.perf_counter()

        def progress(epoch: int, _: object) -> None:
            if self.on_epoch:
                self.on_epoch(work, epoch, recipe.epochs)
            limit = self.study.trial_timeout
            if limit is not None and epoch < recipe.epochs and time.perf_counter() - start > limit:
                raise TimeoutError(f"not finished after {limit:g} s, in epoch {epoch} of {recipe.epochs}")

        results = train(recipe, members, self.device, test=rerun, progress=progress, keeper=keeper)
        seconds = keeper.seconds if keeper else (time.perf_counter() - start) / len(members)
        return [
            self._outcome(slot, result, rerun, seconds, len(members))
            for slot, result in zip(work.slots, results, strict=True)
        ]

    def try_once(self, name: str, setting: dict[str, float], seed: int, progress: Progress | None = None) -> Result:
        """One run of a configuration, as tuning would make it; the test set stays unread.

        Args:
            setting: hyperparameters that differ from the middle of their range or their fixed value.
        """
        configuration = self.configuration(name)
        ranges, fixed = split_space(full_space(configuration))
        hyperparameters = {key: entry.middle() for key, entry in ranges.items()} | fixed | setting
        recipe = self.recipe(configuration, rerun=True)
        return train(recipe, [Member(seed, hyperparameters)], self.device, progress=progress)[0]

    def configuration(self, name: str) -> Configuration:
        return next(entry for entry in self.study.configurations if entry.name == name)

    def recipe(self, configuration: Configuration, rerun: bool) -> Recipe:
        study = self.study
        return Recipe(
            dataset=study.data,
            source=self.source,
            model=study.model,
            regularizer=regularizer_of(configuration),
            optimizer=optimizer_of(configuration),
            epochs=study.epochs if rerun else study.tuning_epochs or study.epochs,
            batch_size=study.batch_size,
            schedule=study.schedule or Constant(),
            sample_loss=loss_of(study),
            metrics=study.metrics,
            precision=study.precision,
            channels_last=study.channels_last,
        )

    def member(self, configuration: str, slot: Slot) -> Member:
        _, fixed = split_space(full_space(self.configuration(configuration)))
        return Member(slot.seed, {**fixed, **(slot.setting or {})})

    def _outcome(self, slot: Slot, result: Result, rerun: bool, seconds: float, population: int) -> Outcome:
        classes = self.source.classes
        diverged = result.diverged_epoch is not None
        value = score(result, self.study, classes)
        if rerun:
            value = 1 / classes if diverged else result.final["test_accuracy"]
        final = {**result.final, "population": population}
        if result.diverged_epoch is not None:
            final["diverged_epoch"] = result.diverged_epoch
        return Outcome(slot.id, slot.attempt, value, "diverged" if diverged else None, final, result.curves, seconds)


def score(result: Result, study: Study, classes: int) -> float | None:
    """What tuning optimises: the study's score at the last or the best epoch.

    A diverged run counts as an untrained network where the metric is bounded (accuracy: 1/classes) and has no
    score (None) where it is not.
    """
    if result.diverged_epoch is not None:
        return 1 / classes if study.score == "validation_accuracy" else None
    values = result.curves.get(study.score)
    if not values:
        known = ", ".join(sorted(result.curves))
        raise UsageError(f"score is {study.score!r}, which no run reports; choose one of {known}")
    if study.score_epoch == "last":
        return values[-1]
    best = max if direction_of(study) == "maximize" else min
    return best((value for value in values if math.isfinite(value)), default=None)
