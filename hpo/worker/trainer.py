"""From leased work to outcomes: the bridge between the ledger's words and the training's."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from hpo.data import Source, load_source
from hpo.errors import HpoError
from hpo.optim.schedules import Constant
from hpo.search_space import split_space
from hpo.storage.ledger import Outcome, Slot, TrialCurve, Work
from hpo.study.definition import full_space, loss_of, optimizer_of, regularizer_of
from hpo.study.study import Configuration, Study
from hpo.training.checkpoints import Checkpoints, FileCheckpointer, resume
from hpo.training.devices import total_memory
from hpo.training.loop import Progress, Prune, train
from hpo.training.population_size import MAX_POPULATION, measure_cost, population_size
from hpo.training.recipe import Member, Recipe, Result
from hpo.trials import DIVERGED, NO_SCORE, PRUNED
from hpo.worker.score import score

if TYPE_CHECKING:
    from hpo.worker.pruning import TrialPruner

EpochDone = Callable[[Work, int, int], None]
Earlier = Callable[[Work], Mapping[int, Sequence[TrialCurve]]]


class Trainer:
    """Trains the slots of one `Work` side by side; what `run_worker` calls."""

    def __init__(
        self,
        study: Study,
        device: torch.device | str,
        on_epoch: EpochDone | None = None,
        checkpoints: Checkpoints | None = None,
        most: int | None = None,
        earlier: Earlier | None = None,
        on_source: Callable[[Source], None] | None = None,
    ) -> None:
        """
        Args:
            on_epoch: told (work, epoch from 1, epochs) after every epoch.
            checkpoints: where runs are kept while they last, and taken up from.
            most: models trained side by side; by default as many as the work has, or `size` found.
            earlier: by tuning run, its finished trials, which the study's pruner compares with; by
                default a piece of work is judged by itself alone.
            on_source: told the samples once they are loaded.
        """
        self.study = study
        self.device = torch.device(device)
        self.on_epoch = on_epoch
        self.checkpoints = checkpoints
        self.most = most
        self.earlier = earlier
        self.on_source = on_source
        self._limits: dict[str, int] = {}  # by configuration, what memory allowed

    @cached_property
    def source(self) -> Source:
        """The study's data set, loaded once."""
        source = load_source(self.study.data)
        if self.on_source:
            self.on_source(source)
        return source

    def __call__(self, work: Work) -> Sequence[Outcome]:
        """One outcome a slot, in order.

        Raises:
            TimeoutError: the population took longer than the study's `trial_timeout`; seen at the end of an epoch.
        """
        rerun = work.phase == "rerun"
        recipe = self.recipe(self.configuration(work.configuration), rerun)
        owners, members = self._members(work)
        runs: list[list[_Run]] = [[] for _ in work.slots]
        pruner = None if rerun or self.study.pruner is None else self._pruner(work)
        for owner, run in zip(owners, self._runs(work, recipe, owners, members, pruner), strict=True):
            runs[owner].append(run)
        return [self._outcome(slot, own, rerun) for slot, own in zip(work.slots, runs, strict=True)]

    def _pruner(self, work: Work) -> "TrialPruner":
        from hpo.worker.pruning import TrialPruner  # with Optuna, which few need here

        tuning_runs = [slot.tuning_run for slot in work.slots]
        return TrialPruner(self.study, self.source.classes, tuning_runs, self.earlier(work) if self.earlier else {})

    def _runs(
        self, work: Work, recipe: Recipe, owners: list[int], members: list[Member], pruner: "TrialPruner | None"
    ) -> list["_Run"]:
        """Trains the members in as few parts as their checkpoints and the limits of the configuration allow.

        The models of a single trial are no more to be parted by the worker: where memory does not hold them, they are
        halved here.
        """
        limit = self._limits.get(work.configuration, self.most or len(members))
        count = self.study.seeds_per_trial
        if pruner and limit > count:
            limit -= limit % count  # a trial's models are judged together
        found: dict[int, _Run] = {}
        for places, checkpointer in self._parts(work, members, limit):
            part, theirs = [members[place] for place in places], [owners[place] for place in places]
            runs = None
            try:
                runs = self._train(work, recipe, part, checkpointer, pruner.prune(theirs) if pruner else None)
            except (MemoryError, torch.OutOfMemoryError):
                if len(work.slots) > 1 or len(part) == 1:
                    raise
            if runs is None:  # outside of the handler, whose exception would hold the population's memory
                self._limits[work.configuration] = len(part) // 2
                runs = self._runs(work, recipe, theirs, part, pruner)
            elif pruner:
                pruner.finish(theirs, [run.result for run in runs])
            found.update(zip(places, runs, strict=True))
        return [found[place] for place in range(len(members))]

    def forget(self, work: Work) -> None:
        """Deletes the checkpoints of work whose outcomes are stored."""
        if self.checkpoints is not None:
            for path in self._paths(work, self._members(work)[1]):
                self.checkpoints.delete(path)

    def _members(self, work: Work) -> tuple[list[int], list[Member]]:
        """The models to be trained, in the order of the slots that they belong to, and those slots' places.

        A trial has one model for each of the study's `seeds_per_trial`, a rerun one.
        """
        _, fixed = split_space(full_space(self.configuration(work.configuration)))
        count = 1 if work.phase == "rerun" else self.study.seeds_per_trial
        owners, members = [], []
        for place, slot in enumerate(work.slots):
            owners += [place] * count
            members += [Member(slot.seed + number, {**fixed, **(slot.setting or {})}) for number in range(count)]
        return owners, members

    def _parts(self, work: Work, members: list[Member], limit: int) -> list[tuple[list[int], FileCheckpointer | None]]:
        """What is trained side by side, by place: at most `limit` members, with checkpoints of the same epoch."""
        if self.checkpoints is None:
            places = list(range(len(members)))
            return [(places[at : at + limit], None) for at in range(0, len(places), limit)]
        return list(resume(self.checkpoints, self._paths(work, members), limit))

    def _paths(self, work: Work, members: list[Member]) -> list[Path]:
        assert self.checkpoints is not None
        name = work.configuration
        return [self.checkpoints.path(name, work.phase, own.seed, own.hyperparameters) for own in members]

    def _train(
        self,
        work: Work,
        recipe: Recipe,
        members: list[Member],
        checkpointer: FileCheckpointer | None,
        prune: Prune | None,
    ) -> list["_Run"]:
        start = time.perf_counter() - (checkpointer.earlier_seconds * len(members) if checkpointer else 0.0)

        def progress(epoch: int, _: object) -> None:
            if self.on_epoch:
                self.on_epoch(work, epoch, recipe.epochs)
            limit = self.study.trial_timeout
            if limit is not None and epoch < recipe.epochs and time.perf_counter() - start > limit:
                self.forget(work)  # the next attempt has as much time as this one
                raise TimeoutError(f"not finished after {limit:g} s, in epoch {epoch} of {recipe.epochs}")

        rerun = work.phase == "rerun"
        # Reports show how labels are fitted, and what the test set says, of reruns alone.
        label_fits = rerun or self.study.score.startswith("noisy_labels")
        results = train(recipe, members, self.device, rerun, progress, checkpointer, prune, label_fits=label_fits)
        spent = checkpointer.seconds * len(members) if checkpointer else time.perf_counter() - start
        epochs = [result.stopped_epoch or recipe.epochs for result in results]
        return [
            _Run(result, spent * own / sum(epochs), len(members)) for result, own in zip(results, epochs, strict=True)
        ]

    def size(self) -> int:
        """How many trials or reruns are best trained side by side: `most`, else what follows from network and device.

        Raises:
            HpoError: the data or the network cannot be had, for a known reason.
        """
        if self.most is None:
            device = self.device.type
            try:
                cost = measure_cost(self.recipe(self.study.configurations[0], rerun=False))
                self.most = population_size(cost, self.study.batch_size, device, total_memory(self.device))
            except HpoError:
                raise
            except Exception:  # a defect of the user's code: training meets it again, and there it is noted
                self.most = MAX_POPULATION[device]
        return max(1, self.most // self.study.seeds_per_trial)

    def try_once(self, name: str, setting: dict[str, float], seed: int, progress: Progress | None = None) -> Result:
        """One run of a configuration with a whole setting, as tuning would make it; the test set stays unread."""
        recipe = self.recipe(self.configuration(name), rerun=True)
        return train(recipe, [Member(seed, setting)], self.device, progress=progress)[0]

    def setting_to_try(self, name: str, given: dict[str, float]) -> dict[str, float]:
        """Every hyperparameter of a configuration: as given, else fixed, else from the middle of its range."""
        ranges, fixed = split_space(full_space(self.configuration(name)))
        return {key: entry.middle() for key, entry in ranges.items()} | fixed | given

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

    def _outcome(self, slot: Slot, runs: "Sequence[_Run]", rerun: bool) -> Outcome:
        """What becomes of a slot: of the one run of a rerun, or the mean over the runs of a trial."""
        values = [self._value(run.result, rerun) for run in runs]
        known = [value for value in values if value is not None]
        value = sum(known) / len(known) if len(known) == len(values) else None
        epochs = [run.result.diverged_epoch for run in runs if run.result.diverged_epoch is not None]
        cause = DIVERGED if epochs else NO_SCORE if value is None else None
        if any(run.result.stopped_epoch for run in runs) and len(epochs) < len(runs):
            cause = PRUNED
        final = _means([run.result.final for run in runs])
        final |= {"population": runs[0].population} | ({"diverged_epoch": min(epochs)} if epochs else {})
        curves = [run.result.curves for run in runs]
        shared = {name: [own[name] for own in curves] for name in curves[0] if all(name in own for own in curves)}
        means = {name: [sum(row) / len(row) for row in zip(*own, strict=False)] for name, own in shared.items()}
        seconds = sum(run.seconds for run in runs)
        return Outcome(slot.id, slot.attempt, value, cause, final, means, seconds)

    def _value(self, result: Result, rerun: bool) -> float | None:
        classes = self.source.classes
        if not rerun:
            return score(result, self.study, classes)
        return 1 / classes if result.diverged_epoch is not None else result.final["test_accuracy"]


class _Run(NamedTuple):
    """One model's training: its result, its share of the seconds, and how many began side by side."""

    result: Result
    seconds: float
    population: int


def _means(finals: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every scalar that all runs report; sizes that do not differ stay what they are."""
    shared = [name for name in finals[0] if all(name in own for own in finals)]
    rows = {name: [own[name] for own in finals] for name in shared}
    return {name: row[0] if row.count(row[0]) == len(row) else sum(row) / len(row) for name, row in rows.items()}
