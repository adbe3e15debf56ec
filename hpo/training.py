"""Training: epochs of a population, from settings and seeds to curves and final numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hpo.counter import mix
from hpo.data import Dataset, Source, Split, split
from hpo.errors import UsageError
from hpo.losses import SampleLoss, cross_entropy
from hpo.objective import Regularizer
from hpo.optimizers import Optimizer
from hpo.population import Population
from hpo.schedules import Constant
from hpo.seeds import stream, stream_key


class Recipe(NamedTuple):
    """Everything that all members of a population share: what cannot be a tensor over the population.

    Attributes:
        dataset: its noise and split; source: its loaded samples on any device.
        model: builds the network. schedule: (step, steps, steps_per_epoch) -> factor on the learning rate.
        epochs, batch_size: of the run. An epoch's last incomplete batch is left out.
        precision, channels_last: as in `Study`.
        sample_loss: (outputs [N, ...], labels [N]) -> losses [N].
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
    precision: str = "float32"
    channels_last: bool = False


class Member(NamedTuple):
    """One model of a population: its seed and every hyperparameter of its optimizer and regularizer."""

    seed: int
    hyperparameters: Mapping[str, float]


class Result(NamedTuple):
    """What became of one member.

    Attributes:
        curves: metric -> one number an epoch, up to the epoch before it diverged.
        final: sizes of the run, and unless it diverged its metrics at the end: `train_loss` and `train_accuracy` on
            the whole training part, the validation metrics, and `test_loss` and `test_accuracy` where asked for.
        diverged_epoch: the first epoch (from 1) whose training or validation loss was not finite; None if all were.
    """

    curves: dict[str, list[float]]
    final: dict[str, float]
    diverged_epoch: int | None


Progress = Callable[[int, Mapping[str, list[float]]], None]


def train(
    recipe: Recipe,
    members: Sequence[Member],
    device: torch.device | str = "cpu",
    test: bool = False,
    progress: Progress | None = None,
) -> list[Result]:
    """Trains one model a member, side by side.

    Args:
        test: also evaluate on the test set, once, at the end. Reruns alone may do that.
        progress: called after every epoch with its number (from 1) and that epoch's metrics, a list over members.

    Returns:
        A result a member, in order. A member that diverges leaves the others as they are.
    """
    inputs = recipe.source.inputs.to(device)
    splits = {seed: split(recipe.source, recipe.dataset, seed) for seed in {member.seed for member in members}}
    _check_sizes(recipe, splits)
    population = _populate(recipe, members, inputs)
    held = _Held(recipe, splits, [member.seed for member in members], device)

    steps = held.training.shape[1] // recipe.batch_size
    diverged: list[int | None] = [None] * len(members)
    curves: list[dict[str, list[float]]] = [{} for _ in members]
    for epoch in range(1, recipe.epochs + 1):
        metrics = _train_epoch(recipe, population, inputs, held, epoch, steps)
        last = held.evaluate(population, inputs)
        metrics |= last
        rows = {name: values.tolist() for name, values in metrics.items()}
        _record(rows, epoch, held, curves, diverged)
        if progress:
            progress(epoch, rows)
        if all(diverged):
            break
    finals = _final(recipe, population, inputs, held, last, test, device)
    return [
        Result(curve, _sizes(recipe, splits[member.seed], test) | ({} if bad else final), bad)
        for curve, final, bad, member in zip(curves, finals, diverged, members, strict=True)
    ]


class _Held:
    """The members' samples as positions in the source, on the device: [K, n] each, padded where they differ."""

    def __init__(
        self, recipe: Recipe, splits: Mapping[int, Split], seeds: Sequence[int], device: torch.device | str
    ) -> None:
        self.seeds = seeds
        self.own = [splits[seed] for seed in seeds]
        self.training, self.training_weights = _stack([own.training for own in self.own], device)
        self.validation, self.validation_weights = _stack([own.validation for own in self.own], device)
        self.changed, self.changed_weights = _stack([own.changed for own in self.own], device)
        self.labels = torch.stack([own.labels for own in self.own]).to(device)
        self.data_keys, self.training_keys = (
            torch.tensor([stream_key(seed, kind) for seed in seeds], device=device) for kind in ("data", "training")
        )
        self.true_labels = recipe.source.labels.to(device).expand(len(seeds), -1)

    def epoch_order(self, epoch: int) -> Tensor:
        """Positions [K, n] of the training samples in the order of an epoch."""
        orders = {
            seed: own.training[torch.randperm(len(own.training), generator=stream(seed, "data", "order", epoch))]
            for seed, own in dict(zip(self.seeds, self.own, strict=True)).items()
        }
        return torch.stack([orders[seed] for seed in self.seeds]).to(self.training.device)

    def reports(self, member: int, metric: str) -> bool:
        """Whether a metric means anything for a member: not every seed need have changed labels."""
        return len(self.own[member].changed) > 0 or not metric.startswith("noisy_labels")

    def evaluate(self, population: Population, inputs: Tensor) -> dict[str, Tensor]:
        """Validation metrics, and how many of the changed training labels are fitted or seen through, [K] each."""
        places = self.validation
        [(loss, accuracy)] = population.evaluate(inputs, places, self.validation_weights, self.labels.gather(1, places))
        metrics = {"validation_loss": loss, "validation_accuracy": accuracy}
        if self.changed.shape[1]:
            kinds = [labels.gather(1, self.changed) for labels in (self.labels, self.true_labels)]
            shares = population.evaluate(inputs, self.changed, self.changed_weights, *kinds)
            for name, (_, share) in zip(("fitted", "recovered"), shares, strict=True):
                metrics[f"noisy_labels_{name}"] = share
        return metrics


def _populate(recipe: Recipe, members: Sequence[Member], inputs: Tensor) -> Population:
    built: dict[int, nn.Module] = {}
    for seed in {member.seed for member in members}:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(seed, "training", "initial weights").initial_seed())
            built[seed] = recipe.model()
    hyperparameters = {
        name: torch.tensor([member.hyperparameters[name] for member in members], dtype=inputs.dtype)
        for name in members[0].hyperparameters
    }
    return Population(
        [built[member.seed] for member in members],
        recipe.regularizer,
        recipe.optimizer,
        hyperparameters,
        recipe.sample_loss,
        inputs[: recipe.batch_size],
        recipe.precision == "bfloat16",
        recipe.channels_last,
    )


def _train_epoch(
    recipe: Recipe, population: Population, inputs: Tensor, held: _Held, epoch: int, steps: int
) -> dict[str, Tensor]:
    """One epoch; returns its mean metrics [K] by name, still on the device."""
    order = held.epoch_order(epoch)[:, : steps * recipe.batch_size]
    labels = held.labels.gather(1, order)
    sums: dict[str, Tensor] = {}
    for step in range(steps):
        batch = slice(step * recipe.batch_size, (step + 1) * recipe.batch_size)
        done = (epoch - 1) * steps + step
        scalars = population.step(
            _views(recipe, inputs, order[:, batch], held.data_keys, epoch),
            labels[:, batch],
            recipe.schedule(done, recipe.epochs * steps, steps),
            mix(held.training_keys, done),
        )
        for name, value in scalars.items():
            sums[name] = sums[name] + value if name in sums else value
    return {name: value / steps for name, value in sums.items()}


def _views(recipe: Recipe, inputs: Tensor, places: Tensor, keys: Tensor, epoch: int) -> Tensor:
    """The samples at places [K, N], augmented once for each view: [K, V, N, ...].

    A sample's augmentation follows from (seed, epoch, place, view), whoever trains beside it.
    """
    models, samples = places.shape
    if not recipe.dataset.augments:
        return inputs[places].unsqueeze(1).expand(-1, recipe.regularizer.views, *[-1] * inputs.dim())
    views = torch.arange(recipe.regularizer.views, device=places.device)
    named = mix(keys[:, None, None], epoch, places[:, None, :], views[None, :, None])
    chosen = inputs[places].unsqueeze(1).expand(-1, len(views), *[-1] * inputs.dim())
    augmented = recipe.dataset.augment(chosen.reshape(-1, *inputs.shape[1:]), named.reshape(-1))
    return augmented.reshape(models, len(views), samples, *inputs.shape[1:])


def _record(
    rows: Mapping[str, list[float]],
    epoch: int,
    held: _Held,
    curves: list[dict[str, list[float]]],
    diverged: list[int | None],
) -> None:
    """Appends one epoch to the curves of the members that are still finite, and notes those that no longer are."""
    for member, curve in enumerate(curves):
        if diverged[member]:
            continue
        if not (math.isfinite(rows["train_loss"][member]) and math.isfinite(rows["validation_loss"][member])):
            diverged[member] = epoch
            continue
        for name, values in rows.items():
            if held.reports(member, name):
                curve.setdefault(name, []).append(values[member])


def _final(
    recipe: Recipe,
    population: Population,
    inputs: Tensor,
    held: _Held,
    last: dict[str, Tensor],
    test: bool,
    device: torch.device | str,
) -> list[dict[str, float]]:
    """Metrics at the end of the run by member: those of the last epoch, the whole training part and the test set."""
    places = held.training
    [(loss, accuracy)] = population.evaluate(inputs, places, held.training_weights, held.labels.gather(1, places))
    metrics = {**last, "train_loss": loss, "train_accuracy": accuracy}
    if test:
        samples = recipe.source.test_inputs.to(device)
        labels = recipe.source.test_labels.to(device).expand(len(population), -1)
        everything = torch.arange(len(samples), device=device).expand(len(population), -1)
        weights = torch.ones_like(labels, dtype=samples.dtype)
        [(metrics["test_loss"], metrics["test_accuracy"])] = population.evaluate(samples, everything, weights, labels)
    rows = {name: values.tolist() for name, values in metrics.items()}
    return [
        {name: values[member] for name, values in rows.items() if held.reports(member, name)}
        for member in range(len(population))
    ]


def _sizes(recipe: Recipe, own: Split, test: bool) -> dict[str, float]:
    sizes: dict[str, float] = {
        "training_samples": len(own.training),
        "validation_samples": len(own.validation),
        "changed_labels": len(own.changed),
        "classes": recipe.source.classes,
        "epochs": recipe.epochs,
    }
    return sizes | ({"test_samples": len(recipe.source.test_labels)} if test else {})


def _stack(rows: Sequence[Tensor], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as one [K, n], padded with position 0, and weights that are 0 on the padding."""
    longest = max(len(row) for row in rows)
    places = torch.zeros(len(rows), longest, dtype=torch.int64)
    weights = torch.zeros(len(rows), longest)
    for number, row in enumerate(rows):
        places[number, : len(row)] = row
        weights[number, : len(row)] = 1
    return places.to(device), weights.to(device)


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


def score(result: Result, metric: str, at: str, classes: int) -> float | None:
    """What tuning optimises: the metric at the last or the best epoch.

    A diverged run counts as an untrained network where the metric is bounded (accuracy: 1/classes) and has no
    score (None) where it is not.
    """
    if result.diverged_epoch is not None:
        return 1 / classes if metric.endswith("accuracy") else None
    values = result.curves.get(metric)
    if not values:
        known = ", ".join(sorted(result.curves))
        raise UsageError(f"score is {metric!r}, which no run reports; choose one of {known}")
    if at == "last":
        return values[-1]
    return min(values) if metric.endswith("loss") else max(values)
