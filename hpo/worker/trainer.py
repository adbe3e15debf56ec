"""Trainer: trains leased work and returns its outcomes; the bridge between the ledger's terms and training's."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from hpo.data import Source, load_source
from hpo.gradients.shares import LostProcess
from hpo.search_space import Value
from hpo.space import Setting
from hpo.study.study import Configuration, Study
from hpo.training.checkpoints import Checkpoints, FileCheckpointer, delete_run, resume
from hpo.training.loop import Checkpointer, Progress, Prune, train
from hpo.training.recipe import Member, Recipe, Result
from hpo.trials import Outcome, TrialCurve, Work
from hpo.worker.group import Group, Job
from hpo.worker.live_progress import Epoch, OnEpoch
from hpo.worker.model_check import check_model_arguments, check_models
from hpo.worker.optimizer_check import check_optimizers
from hpo.worker.outcomes import Run, outcome_of
from hpo.worker.population_limits import PopulationLimits
from hpo.worker.recipes import Parts, Recipes, Static
from hpo.worker.step_check import check_first_steps
from hpo.worker.weights import WeightsFolder

if TYPE_CHECKING:
    from hpo.worker.pruning import TrialPruner

log = logging.getLogger(__name__)


class _Model(NamedTuple):
    """A model to train, the index of its slot, and its setting."""

    slot: int
    member: Member
    parts: Parts


class Trainer:
    """Trains the slots of one `Work` side by side; what `run_worker` calls."""

    def __init__(
        self,
        study: Study,
        device: torch.device | str,
        on_epoch: OnEpoch | None = None,
        checkpoints: Checkpoints | None = None,
        max_models: int | None = None,
        trial_curves: Callable[[Work], Mapping[int, Sequence[TrialCurve]]] | None = None,
        on_source: Callable[[Source], None] | None = None,
        group: Group | None = None,
        weights: WeightsFolder | None = None,
    ) -> None:
        """
        Args:
            on_epoch: called after every epoch of every population.
            checkpoints: where to save long runs and resume them from.
            max_models: models trained side by side at most; by default as many as the work has, or as `size` computes.
            trial_curves: returns the earlier trials of the work's tuning runs, by tuning run, with which the study's
                pruner compares; by default it compares the trials of the work with each other only.
            on_source: called with the samples when they are loaded.
            group: the processes that train with this one. weights: where reruns leave their weights.
        """
        self.study, self.device = study, torch.device(device)
        self.on_epoch, self.on_source, self.group = on_epoch, on_source, group
        self.checkpoints, self.trial_curves, self.weights = checkpoints, trial_curves, weights
        self.recipes = Recipes(study, lambda: self.source)
        self.limits = PopulationLimits(self.recipes, self.device, max_models)

    @cached_property
    def source(self) -> Source:
        """The study's data set, loaded once."""
        source = load_source(self.study.data)
        self.recipes.check_batch_sizes(source)
        if self.on_source:
            self.on_source(source)
        return source

    def __call__(self, work: Work) -> Sequence[Outcome]:
        """One outcome per slot, in order.

        Raises:
            TimeoutError: the population took longer than the study's `trial_timeout`; checked after each epoch.
        """
        rerun, pruner = work.phase == "rerun", self._pruner(work)
        runs: list[list[Run]] = [[] for _ in work.slots]
        by_static: dict[Static, list[_Model]] = {}
        for model in self._models(work):
            by_static.setdefault(model.parts.static, []).append(model)
        for models in by_static.values():  # which have other shapes, so that no population could hold all of them
            recipe = self.recipe(self.configuration(work.configuration), rerun, models[0].parts.training)
            for model, run in zip(models, self._train_models(work, recipe, models, pruner), strict=True):
                runs[model.slot].append(run)
        if rerun and self.weights:
            for slot, (run,) in zip(work.slots, runs, strict=True):
                self.weights.save(work.configuration, slot, run.result)
        classes = self.source.classes
        return [
            outcome_of(slot, slot_runs, self.study, classes, rerun)
            for slot, slot_runs in zip(work.slots, runs, strict=True)
        ]

    def _models(self, work: Work) -> list[_Model]:
        """The models of a work's slots, in order: a trial has one per `seeds_per_trial`, a rerun one."""
        count = 1 if work.phase == "rerun" else self.study.seeds_per_trial
        models = []
        for index, slot in enumerate(work.slots):
            parts = self.recipes.parts(work.configuration, slot.setting or {})
            members = [Member(slot.seed + number, parts.hyperparameters) for number in range(count)]
            models += [_Model(index, member, parts) for member in members]
        return models

    def _pruner(self, work: Work) -> "TrialPruner | None":
        if work.phase == "rerun" or self.study.pruner is None:
            return None
        from hpo.worker.pruning import TrialPruner  # imports Optuna, which most studies do not need here

        tuning_runs = [slot.tuning_run for slot in work.slots]
        curves = self.trial_curves(work) if self.trial_curves else {}
        return TrialPruner(self.study, self.source.classes, tuning_runs, curves)

    def _train_models(
        self, work: Work, recipe: Recipe, models: list[_Model], pruner: "TrialPruner | None"
    ) -> list[Run]:
        """Trains the models in as few populations as checkpoints and memory allow."""
        runs: dict[int, Run] = {}
        for indices, checkpointer in self._groups(work, models, pruner is not None):
            group = [models[index] for index in indices]
            trained = self._train_group(work, recipe, group, checkpointer, pruner)
            if trained is None:
                trained = self._train_models(work, recipe, group, pruner)
            runs.update(zip(indices, trained, strict=True))
        return [runs[index] for index in range(len(models))]

    def _groups(
        self, work: Work, models: list[_Model], prunes: bool
    ) -> list[tuple[list[int], FileCheckpointer | None]]:
        """Indices of models that train side by side: checkpointed at the same epoch and not too many."""
        limit = self.limits.of(work.configuration, models[0].parts.training, len(models))
        if prunes and limit > self.study.seeds_per_trial:
            limit -= limit % self.study.seeds_per_trial  # a trial's models are pruned together
        if self.checkpoints is None:
            indices = list(range(len(models)))
            return [(indices[at : at + limit], None) for at in range(0, len(indices), limit)]
        return list(resume(self.checkpoints, self._checkpoint_paths(work, models), limit))

    def _train_group(
        self,
        work: Work,
        recipe: Recipe,
        group: list[_Model],
        checkpointer: FileCheckpointer | None,
        pruner: "TrialPruner | None",
    ) -> list[Run] | None:
        """Trains one population; None if the models of a single trial do not fit into memory, with half the limit.

        If several slots do not fit, the worker splits them.
        """
        trials = [model.slot for model in group]
        try:
            runs = self._train(work, recipe, group, checkpointer, pruner.callback(trials) if pruner else None)
        except (MemoryError, torch.OutOfMemoryError):
            if len(work.slots) > 1 or len(group) == 1:
                raise
            self.limits.halve(work.configuration, len(group))
            return None  # the exception, which holds the population's memory, ends here
        if pruner:
            pruner.finish(trials, [run.result for run in runs])
        return runs

    def _train(
        self,
        work: Work,
        recipe: Recipe,
        group: list[_Model],
        checkpointer: FileCheckpointer | None,
        prune: Prune | None,
    ) -> list[Run]:
        start = time.perf_counter() - (checkpointer.earlier_seconds * len(group) if checkpointer else 0.0)

        present = work.with_slots([work.slots[index] for index in dict.fromkeys(model.slot for model in group)])

        def progress(epoch: int, results: Sequence[Result]) -> None:
            if self.on_epoch:
                self.on_epoch(
                    self._epoch(present, epoch, recipe.epochs, [work.slots[m.slot].id for m in group], results)
                )
            limit = self.study.trial_timeout
            if limit is not None and epoch < recipe.epochs and time.perf_counter() - start > limit:
                self.delete_checkpoints(work)  # the next attempt has the full time limit
                raise TimeoutError(f"not finished after {limit:g} s, in epoch {epoch} of {recipe.epochs}")

        rerun = work.phase == "rerun"
        # Reports show label fits and test metrics of reruns only.
        label_fits = rerun or self.study.score.startswith("noisy_labels")
        members, training = [model.member for model in group], group[0].parts.training
        if self.group is None:
            keep = rerun and self.weights is not None
            results = train(
                recipe, members, self.device, rerun, progress, checkpointer, prune, label_fits, keep_weights=keep
            )
        else:
            job = Job(work.configuration, rerun, training, members, label_fits, checkpointer is not None)
            results = self.group.train(job, partial(self._train_shared, recipe, job, progress), prune, checkpointer)
        seconds = checkpointer.seconds * len(group) if checkpointer else time.perf_counter() - start
        epochs = [result.stopped_epoch or recipe.epochs for result in results]
        shares = [seconds * count / sum(epochs) for count in epochs]
        return [Run(result, share, len(group)) for result, share in zip(results, shares, strict=True)]

    def _epoch(self, work: Work, epoch: int, epochs: int, slots: Sequence[int], results: Sequence[Result]) -> Epoch:
        """What a population has finished; `slots` are the slot ids of its models."""
        by_slot: dict[int, list[Result]] = {slot.id: [] for slot in work.slots}
        for slot, result in zip(slots, results, strict=True):
            by_slot[slot].append(result)
        models = 1 if work.phase == "rerun" else self.study.seeds_per_trial
        return Epoch(work, epoch, epochs, by_slot, all(len(each) == models for each in by_slot.values()))

    def _train_shared(
        self, recipe: Recipe, job: Job, progress: Progress | None, prune: Prune, checkpointer: Checkpointer | None
    ) -> list[Result]:
        """This process's part in training a job of its group."""
        assert self.group is not None
        arguments = (job.members, self.device, job.rerun, progress, checkpointer, prune, job.label_fits)
        return train(recipe, *arguments, share=self.group.share, keep_weights=job.rerun and self.weights is not None)

    def follow(self) -> None:
        """Trains what the leader of the group trains, until it ends."""
        assert self.group is not None
        while job := self.group.next_job():
            try:
                self.group.train(job, partial(self._follow, job))
            except LostProcess:
                raise
            except Exception as error:  # in all processes, and the leader reports it
                log.info("the population failed: %s", error)

    def _follow(self, job: Job, prune: Prune, checkpointer: Checkpointer | None) -> list[Result]:
        recipe = self.recipe(self.configuration(job.configuration), job.rerun, job.training)
        return self._train_shared(recipe, job, None, prune, checkpointer)

    def delete_checkpoints(self, work: Work) -> None:
        """Deletes the checkpoints of work whose outcomes are stored."""
        if self.checkpoints is not None:
            for path in self._checkpoint_paths(work, self._models(work)):
                delete_run(path)

    def _checkpoint_paths(self, work: Work, models: list[_Model]) -> list[Path]:
        assert self.checkpoints is not None
        return [
            self.checkpoints.path(
                work.configuration, work.phase, member.seed, {**member.hyperparameters, **dict(parts.training)}
            )
            for _, member, parts in models
        ]

    def size(self) -> int:
        """How many trials or reruns to train side by side: from `max_models`, else from the network and the device.

        Raises:
            HpoError: the data cannot be loaded, the network or an optimizer cannot be built, for a known reason, or a
                configuration with user code cannot make a step.
        """
        check_models(self.recipes)
        check_optimizers(self.recipes)
        check_first_steps(self.recipes, self.device)
        return max(1, self.limits.largest() // self.study.seeds_per_trial)

    def try_once(self, name: str, setting: Mapping[str, Value], seed: int, progress: Progress | None = None) -> Result:
        """One run of a configuration with a complete setting, as a rerun but without the test set."""
        check_model_arguments(self.recipes, name, setting)
        parts = self.recipes.parts(name, setting)
        recipe = self.recipe(self.configuration(name), rerun=True, training=parts.training)
        return train(recipe, [Member(seed, parts.hyperparameters)], self.device, progress=progress)[0]

    def setting_to_try(self, name: str, given: Mapping[str, Value]) -> Setting:
        """See `Recipes.setting_to_try`."""
        return self.recipes.setting_to_try(name, given)

    def configuration(self, name: str) -> Configuration:
        return self.recipes.configuration(name)

    def recipe(self, configuration: Configuration, rerun: bool, training: Static = ()) -> Recipe:
        """See `Recipes.recipe`."""
        return self.recipes.recipe(configuration, rerun, training)
