"""Training: epochs of a population, from settings and seeds to curves and final numbers."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hpo.data import Dataset, Source, Split, check_fit, check_source, split
from hpo.errors import UsageError
from hpo.models.losses import SampleLoss, cross_entropy
from hpo.optim.optimizers import Optimizer
from hpo.optim.regularizer import Regularizer
from hpo.optim.schedules import Constant
from hpo.training.before_training import check_calls
from hpo.training.evaluation import evaluate_test, evaluate_training, validate, warn_of_infinities
from hpo.training.initial_models import build, check_model, check_same_attributes
from hpo.training.output_check import check_outputs
from hpo.training.population import Metric, Population
from hpo.training.samples import Samples
from hpo.training.steps import Steps
from hpo.user_code.generators import no_global_draws
from hpo.user_code.metrics import check_metrics


class Recipe(NamedTuple):
    """Everything that all members of a population share: what cannot be a tensor over the population.

    Attributes:
        dataset: its noise and split; source: its loaded samples on any device.
        model: builds the network. schedule: (step, steps, steps_per_epoch) -> factor on the learning rate.
        epochs, batch_size: of the run. An epoch's last incomplete batch is left out.
        precision, channels_last: as in `Study`.
        sample_loss: (outputs [N, ...], labels [N]) -> losses [N].
        metrics: of the user's own, by name: (outputs [N, ...], labels [N]) -> values [N].
    """

    dataset: Dataset
    source: Source
    model: Callable[[], nn.Module]
    regularizer: Regularizer
    optimizer: Optimizer
    epochs: int
    batch_size: int
    schedule: Callable[[int, int, int], float] = Constant()
    sample_loss: SampleLoss = cross_entropy
    metrics: Mapping[str, Metric] = MappingProxyType({})
    precision: str = "float32"
    channels_last: bool = False


class Member(NamedTuple):
    """One model of a population: its seed and every hyperparameter of its optimizer and regularizer.

    Another `salt` means other initial weights and Dropout masks with the same data, split and batch order.
    """

    seed: int
    hyperparameters: Mapping[str, float]
    salt: int = 0


class Result(NamedTuple):
    """What became of one member.

    Attributes:
        curves: metric -> one number an epoch, up to the epoch before it diverged.
        final: sizes of the run, and unless it diverged its metrics at the end: `train_loss` and `train_accuracy` on
            the whole training part, the validation metrics, and `test_loss`, `test_accuracy` and the user's own
            metrics as `test_<name>` where asked for.
        diverged_epoch: the first epoch (from 1) whose training or validation loss was not finite; None if all were.
        stopped_epoch: the epoch after which it was stopped by a `Prune`; None if it was not. Its `final` holds the
            sizes and that epoch's validation metrics.
    """

    curves: dict[str, list[float]]
    final: dict[str, float]
    diverged_epoch: int | None
    stopped_epoch: int | None = None


Progress = Callable[[int, Mapping[str, list[float]]], None]
# (epoch from 1, what has become of every member so far, without `final`) -> places of the members to be stopped
Prune = Callable[[int, Sequence[Result]], Collection[int]]


class Checkpointer(Protocol):
    """Keeps the state of a long run outside this process, so that another one can go on from it."""

    def load(self) -> Sequence[Mapping[str, Any]] | None:
        """The states last saved, one a member and all of the same epoch, or None."""

    def save(self, states: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """Told after every epoch; calls `states` when it is time to save."""


def train(
    recipe: Recipe,
    members: Sequence[Member],
    device: torch.device | str = "cpu",
    test: bool = False,
    progress: Progress | None = None,
    checkpointer: Checkpointer | None = None,
    prune: Prune | None = None,
    label_fits: bool = True,
) -> list[Result]:
    """Trains one model a member, side by side.

    Args:
        test: also evaluate on the test set, once, at the end. Reruns alone may do that.
        progress: called after every epoch with its number (from 1) and that epoch's metrics, a list over the members
            still in training.
        checkpointer: saves the run after epochs, and gives it back to a run that starts anew with the same members.
        prune: called after every epoch but the last; whom it names is trained no further, and its memory is freed.
        label_fits: where labels are noisy, also tell by epoch how many of those and of the others are fitted.

    Returns:
        A result a member, in order. A member that diverges leaves the others as they are.

    Raises:
        UsageError: the samples are not as `Source` describes them, a metric has a name of hpo's, or the networks cannot
            be trained on these samples.
    """
    check_metrics(recipe.metrics)
    recipe = recipe._replace(source=check_source(recipe.source))
    check_fit(recipe.dataset, recipe.source)
    splits = {seed: split(recipe.source, recipe.dataset, seed) for seed in {member.seed for member in members}}
    _check_sizes(recipe, splits)
    seeds, salts = [member.seed for member in members], [member.salt for member in members]
    samples = Samples(recipe.dataset, recipe.source, splits, seeds, device, salts)
    population = build_population(recipe, members, samples.inputs)
    check_calls(population, samples, recipe.schedule, recipe.epochs, recipe.batch_size)
    run = _Run(recipe, population, samples, label_fits)
    saved = checkpointer.load() if checkpointer else None
    if saved is not None:
        run.restore(saved)
    while run.epoch < recipe.epochs and not run.over:
        rows = run.advance()
        if progress:
            progress(run.epoch, rows)
        if prune and run.epoch < recipe.epochs:
            run.stop(prune(run.epoch, run.results()))
        if checkpointer and run.epoch < recipe.epochs:
            checkpointer.save(run.states)
    return [
        result._replace(final=_sizes(recipe, splits[member.seed], test, result.stopped_epoch) | final)
        for result, final, member in zip(run.results(), run.finals(test), members, strict=True)
    ]


class _Run:
    """A population on its way through the epochs.

    Attributes:
        epoch: the last one done, from 1. curves: of each member, metric -> a number an epoch.
        diverged, stopped: of each member, the epoch in which it did, and after which it was; or None.
        present: the members still in training, in the order of the population's rows.
        last: validation metrics of that epoch, a number a row.
    """

    def __init__(self, recipe: Recipe, population: Population, samples: Samples, label_fits: bool = True) -> None:
        self.recipe, self.population, self.samples, self.label_fits = recipe, population, samples, label_fits
        self._make_steps()
        self.epoch = 0
        self.last: dict[str, Tensor] = {}
        self.curves: list[dict[str, list[float]]] = [{} for _ in range(len(population))]
        self.diverged: list[int | None] = [None] * len(population)
        self.stopped: list[int | None] = [None] * len(population)
        self.present = list(range(len(population)))

    def _make_steps(self) -> None:
        recipe = self.recipe
        self.steps = Steps(self.population, self.samples, recipe.batch_size, recipe.epochs, recipe.schedule)

    @property
    def over(self) -> bool:
        """Whether no member is left that could learn."""
        return all(self.diverged[member] for member in self.present)

    def results(self) -> list[Result]:
        """What has become of every member so far, without its final metrics."""
        parts = zip(self.curves, self.diverged, self.stopped, strict=True)
        return [Result(curves, {}, diverged, stopped) for curves, diverged, stopped in parts]

    def advance(self) -> dict[str, list[float]]:
        """One epoch of training and validation; returns its metrics, a list over the members present each."""
        self.epoch += 1
        with no_global_draws("the regularizer, network, loss, augmentation or a metric"):
            metrics = self.steps.epoch(self.epoch)
            self.last = validate(self.population, self.samples, self.label_fits)
        metrics |= self.last
        rows = _read(metrics)
        self._record(rows)
        return rows

    def stop(self, members: Collection[int]) -> None:
        """Trains these members no further."""
        rows = [row for row, member in enumerate(self.present) if member not in members]
        if len(rows) == len(self.present):
            return
        for member in set(members) & set(self.present):
            self.stopped[member] = self.epoch
        self._keep(rows)

    def finals(self, test: bool) -> list[dict[str, float]]:
        """Metrics at the end by member: of the last epoch, the whole training part and the test set; none if diverged.

        Those of a member that was stopped are the validation metrics of its last epoch.
        """
        found = [
            {name: values[-1] for name, values in curve.items() if not name.startswith(("train_", "aux/"))}
            for curve in self.curves
        ]
        if self.present:
            metrics = self.last | evaluate_training(self.population, self.samples)
            if test:
                metrics |= evaluate_test(self.population, self.samples)
            rows = _read(metrics)
            for row, member in enumerate(self.present):
                found[member] = {name: values[row] for name, values in rows.items() if self.samples.reports(row, name)}
        return [{} if diverged else final for final, diverged in zip(found, self.diverged, strict=True)]

    def states(self) -> list[dict[str, Any]]:
        """All that `restore` needs to go on after this epoch, by member; copies on the CPU and plain values."""
        models = dict(zip(self.present, self.population.states(), strict=True)) if self.present else {}
        return [
            {"epoch": self.epoch, "curves": curves, "diverged": diverged}
            | ({"model": models[member]} if member in models else {"stopped": self.stopped[member]})
            for member, (curves, diverged) in enumerate(zip(self.curves, self.diverged, strict=True))
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes up members that trained with the same recipe, together or not, up to the same epoch."""
        self.epoch = states[0]["epoch"]
        self.curves = [dict(state["curves"]) for state in states]
        self.diverged = [state["diverged"] for state in states]
        self.stopped = [state.get("stopped") for state in states]
        if any(self.stopped):
            self._keep([member for member, stopped in enumerate(self.stopped) if not stopped])
        if self.present:
            self.population.restore([states[member]["model"] for member in self.present])

    def _keep(self, rows: Sequence[int]) -> None:
        self.present = [self.present[row] for row in rows]
        if rows:
            self.population.keep(rows)
            self.samples.keep(rows)
            self._make_steps()
            self.last = {name: values[list(rows)] for name, values in self.last.items()}

    def _record(self, rows: Mapping[str, list[float]]) -> None:
        """Appends an epoch to the curves of the members that are still finite, and notes those that no longer are."""
        for row, member in enumerate(self.present):
            if self.diverged[member]:
                continue
            if not (math.isfinite(rows["train_loss"][row]) and math.isfinite(rows["validation_loss"][row])):
                self.diverged[member] = self.epoch
                continue
            warn_of_infinities(self.recipe.metrics, {name: values[row] for name, values in rows.items()})
            for name, values in rows.items():
                if self.samples.reports(row, name):
                    self.curves[member].setdefault(name, []).append(values[row])


def _read(metrics: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Metrics [K] as numbers, in one copy from the device."""
    return dict(zip(metrics, torch.stack([values.double() for values in metrics.values()]).tolist(), strict=True))


def build_population(recipe: Recipe, members: Sequence[Member], inputs: Tensor) -> Population:
    """The members' networks as their seeds initialise them; `inputs` [M, ...] are on the device.

    Raises:
        UsageError: the networks cannot be trained side by side.
    """
    check_model(recipe.model, recipe.source.inputs, recipe.source.test_inputs)
    built = {(seed, salt): build(recipe.model, seed, salt) for seed, salt in {member[::2] for member in members}}
    check_same_attributes(list(built.values()))
    hyperparameters = {
        name: torch.tensor([member.hyperparameters[name] for member in members], dtype=torch.float64)
        for name in members[0].hyperparameters
    }
    population = Population(
        [built[member.seed, member.salt] for member in members],
        recipe.regularizer,
        recipe.optimizer,
        hyperparameters,
        recipe.sample_loss,
        inputs[: recipe.batch_size],
        recipe.precision == "bfloat16",
        recipe.channels_last,
        recipe.metrics,
    )
    check_outputs(population.output_shape, recipe.source.classes)
    return population


def _sizes(recipe: Recipe, own: Split, test: bool, stopped: int | None) -> dict[str, float]:
    sizes: dict[str, float] = {
        "training_samples": len(own.training),
        "validation_samples": len(own.validation),
        "changed_labels": len(own.changed),
        "classes": recipe.source.classes,
        "epochs": stopped or recipe.epochs,
    }
    return sizes | ({"test_samples": len(recipe.source.test_labels)} if test else {})


def _check_sizes(recipe: Recipe, splits: Mapping[int, Split]) -> None:
    smallest = min(len(own.training) for own in splits.values())
    if smallest < recipe.batch_size:
        raise UsageError(
            f"batch_size is {recipe.batch_size}, but the training part has {smallest} samples; "
            "choose a smaller batch_size or more data"
        )
    if any(not len(own.validation) for own in splits.values()):
        raise UsageError(
            f"data: validation is {recipe.dataset.validation!r}, which is none of {len(recipe.source.labels)} samples; "
            "choose a larger share"
        )
