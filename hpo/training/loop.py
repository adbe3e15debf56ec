"""The training loop: epochs of a population, from settings and seeds to curves and final metrics."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from typing import Any, Protocol

import torch
from torch import Tensor

from hpo.data import Split, check_fit, check_source, split
from hpo.errors import HpoError, UsageError
from hpo.gradients.rule_check import check_unmixed
from hpo.gradients.shares import Share
from hpo.stages import batch_size_at, batch_sizes_of
from hpo.tasks import TASKS
from hpo.training.before_training import check_calls
from hpo.training.diagnose import diagnose
from hpo.training.evaluation import evaluate_test, evaluate_training, validate, warn_about_infinities
from hpo.training.initial_models import build_population
from hpo.training.population import Population
from hpo.training.recipe import Member, Recipe, Result
from hpo.training.samples import Samples
from hpo.training.steps import Steps
from hpo.training.streamed_samples import StreamedSamples
from hpo.user_code.failures import refusing
from hpo.user_code.generators import no_global_draws
from hpo.user_code.metrics import check_metrics

Progress = Callable[[int, Sequence[Result]], None]
ALL_SAMPLES = Share()  # for one process
# (epoch from 1, every member's result so far, without `final`) -> the indices of the members to stop
Prune = Callable[[int, Sequence[Result]], Collection[int]]


class Checkpointer(Protocol):
    """Saves the state of a long run outside this process, so that another process can resume it."""

    def load(self) -> Sequence[Mapping[str, Any]] | None:
        """The last saved states, one per member and all of the same epoch, or None."""

    def save(self, states: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """Called after every epoch; calls `states` when a checkpoint is due."""


def train(
    recipe: Recipe,
    members: Sequence[Member],
    device: torch.device | str = "cpu",
    test: bool = False,
    progress: Progress | None = None,
    checkpointer: Checkpointer | None = None,
    prune: Prune | None = None,
    label_fits: bool = True,
    share: Share = ALL_SAMPLES,
    keep_weights: bool = False,
) -> list[Result]:
    """Trains one model per member, side by side.

    Args:
        test: also evaluate on the test set, once, at the end; for reruns only.
        progress: called after every epoch with its number (from 1) and every member's result so far, without `final`.
        checkpointer: saves the run after epochs; a new call with the same members resumes from what it loads.
        prune: called after every epoch but the last; the members that it returns are stopped and their memory is freed.
        label_fits: with label noise, also report in every epoch which shares of noisy and clean labels are fitted.
        share: of each minibatch and of each evaluated set that this process computes. All processes call this function
            with the same arguments, and return the same results.
        keep_weights: whether results have the weights, copied to the CPU.

    Returns:
        One result per member, in order. A member that diverges does not affect the others.

    Raises:
        UsageError: the samples are not as `Source` describes them, a metric has a reserved name, or the networks cannot
            be trained on these samples.
    """
    task = recipe.dataset.task
    check_metrics(recipe.metrics, TASKS[task])
    recipe = recipe._replace(source=check_source(recipe.source, task))
    with closing(make_samples(recipe, members, device, share)) as samples:
        run = _Run(recipe, make_population(recipe, members, samples, share), samples, label_fits)
        saved = checkpointer.load() if checkpointer else None
        if saved is not None:
            run.restore(saved)
        while run.epoch < recipe.epochs and not run.finished:
            run.train_epoch()
            if progress:
                progress(run.epoch, run.results)
            if prune and run.epoch < recipe.epochs:
                run.stop(prune(run.epoch, run.results))
            if checkpointer and run.epoch < recipe.epochs:
                checkpointer.save(run.states)
        return run.final_results(test, keep_weights)


def make_samples(
    recipe: Recipe, members: Sequence[Member], device: torch.device | str, share: Share = ALL_SAMPLES
) -> Samples:
    """The members' samples on the device, to be closed after training.

    Raises:
        UsageError: the samples do not fit the recipe.
    """
    check_fit(recipe.dataset, recipe.source)
    splits = {seed: split(recipe.source, recipe.dataset, seed) for seed in {member.seed for member in members}}
    _check_sizes(recipe, splits, share)
    seeds, salts = [member.seed for member in members], [member.salt for member in members]
    kind = StreamedSamples if recipe.source.is_streamed else Samples
    return kind(recipe.dataset, recipe.source, splits, seeds, device, salts)


def make_population(
    recipe: Recipe, members: Sequence[Member], samples: Samples, share: Share = ALL_SAMPLES
) -> Population:
    """The members' models as they begin to train.

    Raises:
        UsageError: they cannot be trained on these samples.
    """
    population = build_population(recipe, members, samples.examples)
    population.network.share = share
    if share.count > 1:
        classes, labels = recipe.source.classes, samples.labels[0]
        mixed = getattr(recipe.dataset, "mixing", None)  # then the loss gets the shares of the classes
        shares = torch.zeros(0, classes or 1, dtype=population.network.dtype)
        check_unmixed(population.network, recipe.sample_loss, shares if mixed else labels)
    with refusing():
        check_calls(population, samples, recipe.all_schedules, recipe.epochs, batch_size_at(recipe.batch_size, 1))
    return population


class _Run:
    """A population in training.

    Attributes:
        epoch: the last finished epoch, from 1. results: of every member, without `final`. splits: of every member.
        active: the members still in training, in the order of the population's rows.
        last: the validation metrics of the last epoch, one value per row.
    """

    def __init__(self, recipe: Recipe, population: Population, samples: Samples, label_fits: bool) -> None:
        self.recipe, self.population, self.samples, self.label_fits = recipe, population, samples, label_fits
        self.epoch = 0
        self._make_steps()
        self.splits = samples.splits
        self.last: dict[str, Tensor] = {}
        self._gradients = [0.0] * len(population)  # evaluations a step
        self._parameters = population.parameter_counts()
        self.results = [Result({}, {}, None) for _ in range(len(population))]
        self.active = list(range(len(population)))

    def _make_steps(self) -> None:
        recipe, epoch = self.recipe, min(self.epoch + 1, self.recipe.epochs)
        parts = self.population, self.samples, recipe.batch_size, recipe.epochs, recipe.all_schedules
        self.steps = Steps(*parts, epoch=epoch, keep_last=recipe.last_batch == "keep")

    @property
    def finished(self) -> bool:
        """Whether every member was stopped or has diverged."""
        return all(self.results[member].diverged_epoch for member in self.active)

    def train_epoch(self) -> None:
        """Trains and validates one epoch."""
        if self.steps.batch_size != batch_size_at(self.recipe.batch_size, self.epoch + 1):
            self._make_steps()
        self.epoch += 1
        with no_global_draws("the regularizer, optimizer, network, loss, augmentation or a metric"):
            metrics = self.steps.epoch(self.epoch)
            self._check_other_processes()
            self.population.finish_epoch(self.epoch, self.recipe.epochs)
            self.last = validate(self.population, self.samples, self.label_fits)
        for member, evaluations in zip(self.active, self.population.gradient_evaluations, strict=True):
            self._gradients[member] = evaluations
        self._record(_to_numbers(metrics | self.last))

    def _check_other_processes(self) -> None:
        """Raises HpoError unless parameters and buffers are the same in all processes."""
        population, share = self.population, self.population.network.share
        different = share.differences(population.params | population.buffers)
        for name in population.buffers.keys() & different:
            raise UsageError(
                f"the network's buffer {name!r} follows from the samples of a batch, and each of the {share.count} "
                "processes has others; train with one process, or leave such statistics to BatchNorm"
            )
        if different:
            raise HpoError(
                f"the processes of the group have different values of {different[0]!r} after epoch {self.epoch}; let "
                "all run on the same kind of device with the same versions of PyTorch"
            )

    def _record(self, metrics: Mapping[str, list[float]]) -> None:
        """Appends an epoch to the curves of all members that have not diverged."""
        for row, member in enumerate(self.active):
            result = self.results[member]
            if result.diverged_epoch:
                continue
            if not (math.isfinite(metrics["train_loss"][row]) and math.isfinite(metrics["validation_loss"][row])):
                self.results[member] = result._replace(diverged_epoch=self.epoch)
                continue
            warn_about_infinities(self.recipe.metrics, {name: values[row] for name, values in metrics.items()})
            for name, values in metrics.items():
                if self.samples.reports(row, name):
                    result.curves.setdefault(name, []).append(values[row])

    def stop(self, members: Collection[int]) -> None:
        """Stops training these members."""
        rows = [row for row, member in enumerate(self.active) if member not in members]
        if len(rows) == len(self.active):
            return
        for member in set(members) & set(self.active):
            self.results[member] = self.results[member]._replace(stopped_epoch=self.epoch)
        self._keep(rows)

    def _keep(self, rows: Sequence[int]) -> None:
        self.active = [self.active[row] for row in rows]
        if rows:
            self.population.keep(rows)
            self.samples.keep(rows)
            self._make_steps()
            self.last = {name: values[list(rows)] for name, values in self.last.items()}

    def final_results(self, test: bool, keep_weights: bool = False) -> list[Result]:
        """The results with `final`, and `weights` if they are kept.

        The metrics of a stopped member are those of its last validation.
        """
        finals = [
            {name: values[-1] for name, values in result.curves.items() if not name.startswith(("train_", "aux/"))}
            for result in self.results
        ]
        if self.active:
            metrics = self.last | evaluate_training(self.population, self.samples)
            if test:
                metrics |= evaluate_test(self.population, self.samples)
                metrics |= diagnose(self.population, self.samples, self.recipe.diagnostics, self.steps.batch_size)
            numbers = _to_numbers(metrics)
            for row, member in enumerate(self.active):
                finals[member] = {
                    name: values[row] for name, values in numbers.items() if self.samples.reports(row, name)
                }
        weights = self._weights() if keep_weights else {}
        sizes = [self._sizes(member, test) for member in range(len(self.results))]
        return [
            result._replace(final=size)
            if result.diverged_epoch
            else result._replace(final=size | final, weights=weights.get(member))
            for member, (result, size, final) in enumerate(zip(self.results, sizes, finals, strict=True))
        ]

    def _sizes(self, member: int, test: bool) -> dict[str, float]:
        source, parts = self.recipe.source, self.splits[member]
        epochs = self.results[member].stopped_epoch or self.recipe.epochs
        sizes: dict[str, float] = {
            "training_samples": len(parts.training),
            "validation_samples": len(parts.validation),
            "changed_labels": len(parts.changed),
            "epochs": epochs,
            "steps": self.steps.count_until(epochs),
            "gradient_evaluations": self._gradients[member],
            **self._parameters,
        }
        sizes |= {"classes": source.classes} if source.classes else {}
        return sizes | ({"test_samples": len(source.test_labels)} if test else {})

    def _weights(self) -> dict[int, dict[str, Tensor]]:
        """Copies of the parameters and buffers that are evaluated, by member."""
        params, buffers = self.population.evaluated()
        stacks = {name: values.detach().cpu() for name, values in {**params, **buffers}.items()}
        return {
            member: {name: values[row].clone().contiguous() for name, values in stacks.items()}
            for row, member in enumerate(self.active)
        }

    def states(self) -> list[dict[str, Any]]:
        """Everything that `restore` needs, per member: plain values and copies on the CPU."""
        models = dict(zip(self.active, self.population.states(), strict=True)) if self.active else {}
        return [
            {"epoch": self.epoch, "curves": result.curves, "diverged": result.diverged_epoch}
            | {"gradients": self._gradients[member]}
            | ({"model": models[member]} if member in models else {"stopped": result.stopped_epoch})
            for member, result in enumerate(self.results)
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Resumes members that trained with this recipe, in one population or in several, up to the same epoch."""
        self.epoch = states[0]["epoch"]
        self.results = [Result(dict(state["curves"]), {}, state["diverged"], state.get("stopped")) for state in states]
        self._gradients = [state["gradients"] for state in states]
        active = [member for member, result in enumerate(self.results) if not result.stopped_epoch]
        if len(active) < len(self.active):
            self._keep(active)
        if active:
            self.population.restore([states[member]["model"] for member in active])


def _to_numbers(metrics: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Metrics [K] as numbers, copied from the device at once."""
    return dict(zip(metrics, torch.stack([values.double() for values in metrics.values()]).tolist(), strict=True))


def _check_sizes(recipe: Recipe, splits: Mapping[int, Split], share: Share) -> None:
    smallest = min(len(parts.training) for parts in splits.values())
    largest = max(batch_sizes_of(recipe.batch_size))
    if smallest < largest:
        raise UsageError(
            f"batch_size is {largest}, but the training part has {smallest} samples; "
            "choose a smaller batch_size or more data"
        )
    samples, needed = min(batch_sizes_of(recipe.batch_size)) // recipe.accumulate, recipe.regularizer.min_samples
    if samples < needed:
        divisor = " / accumulate" if recipe.accumulate > 1 else ""
        raise UsageError(
            f"regularizer {recipe.regularizer.name!r} needs at least {needed} samples at once, and "
            f"batch_size{divisor} is {samples}; choose a larger one"
        )
    if any(not len(parts.validation) for parts in splits.values()):
        raise UsageError(
            f"data: validation is {recipe.dataset.validation!r}, which is none of {len(recipe.source.labels)} samples; "
            "choose a larger share"
        )
    if share.count > 1:
        _check_shares(recipe, smallest, share.count)


def _check_shares(recipe: Recipe, training_samples: int, processes: int) -> None:
    equal = processes * recipe.accumulate
    for size in batch_sizes_of(recipe.batch_size):
        if size % equal:
            parts = f" with accumulate={recipe.accumulate}" if recipe.accumulate > 1 else ""
            raise UsageError(
                f"batch_size is {size}, which {processes} processes{parts} cannot share equally; choose a multiple of "
                f"{equal}"
            )
        if recipe.last_batch == "keep" and training_samples % size % processes:
            raise UsageError(
                f"an epoch's last batch has {training_samples % size} samples, which {processes} processes cannot "
                "share equally; choose last_batch='drop' or another number of processes"
            )
