"""Sharpness and Hessian of K models at their weights, each on its own samples of the training part."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from hpo.diagnostics import Hessian
from hpo.gradients.sample_functions import compute_losses
from hpo.models.losses import evaluated_loss
from hpo.random import stream
from hpo.training.lifting import lift
from hpo.training.population import Population
from hpo.training.samples import Samples, take
from hpo.tree import Tree, dot, norm, normalized_step

# Values of the samples of all models that one pass differentiates: they bound the memory of activations.
DIFFERENTIATED_NUMBERS = {"cpu": 2**17, "cuda": 2**20}


class TrainingLoss:
    """The mean loss of `hpo.Sharpness` of K models, with its gradient and Hessian; parameters are leaves [K, ...].

    Every sum over samples is made in chunks, so that a population's training step needs more memory.
    """

    def __init__(self, population: Population, samples: Samples, count: int, batch_size: int) -> None:
        """count: training samples of each model. batch_size: of a training step."""
        self.network, loss = population.network, evaluated_loss(population.sample_loss)
        self.params, self._buffers = population.evaluated()
        self.network.module.eval()
        self._samples = samples
        # Epoch 0, which no training has, gives a random order that follows from the seed.
        self._indices = samples.epoch_order(0)[:, :count]
        models = len(population)
        numbers = DIFFERENTIATED_NUMBERS[self._indices.device.type] // (models * self.network.example[0].numel())
        self._chunk = max(1, batch_size // 4, numbers)

        used = self._indices.shape[1]

        def loss_of(params: Tree, inputs: Tensor, buffers: Tree, labels: Tensor) -> Tensor:
            return compute_losses(loss, self.network(params, inputs, buffers), labels).sum() / used

        def product(params: Tree, vector: Tree, *others: Any) -> Tree:
            return grad(lambda at: dot(grad(loss_of)(at, *others), vector))(params)

        self._loss, self._grad, self._product = (lift(each, models) for each in (loss_of, grad(loss_of), product))

    def loss(self, params: Tree) -> Tensor:
        """[K]."""
        return self._sum(lambda *batch: {"": self._loss(params, *batch)})[""]

    def grad(self) -> Tree:
        """At the models' weights."""
        return self._sum(lambda *batch: self._grad(self.params, *batch))

    def hessian_product(self, vector: Tree) -> Tree:
        """H v, by two backward passes."""
        return self._sum(lambda *batch: self._product(self.params, vector, *batch))

    def _sum(self, function: Callable[..., Tree]) -> Tree:
        total: Tree = {}
        labels = take(self._samples.labels, self._indices)
        for number, inputs in enumerate(self._samples.read(self._indices, self._chunk)):
            part = slice(number * self._chunk, (number + 1) * self._chunk)
            values = function(inputs, self._buffers, labels[:, part])
            total = {name: total[name] + value for name, value in values.items()} if total else values
        return total


def sharpness(loss: TrainingLoss, rho: float) -> Tensor:
    """L(w + ρ g/‖g‖) − L(w) [K]."""
    first = next(iter(loss.params.values()))
    step = lift(normalized_step, len(first))
    return loss.loss(step(loss.params, first.new_full((len(first),), rho), loss.grad())) - loss.loss(loss.params)


def top_eigenvalue(loss: TrainingLoss, seeds: Sequence[int], settings: Hessian) -> Tensor:
    """The largest eigenvalue of the Hessian [K]."""
    zeros = torch.zeros(len(seeds), dtype=loss.network.dtype, device=next(iter(loss.params.values())).device)
    values = _power_iteration(loss, seeds, settings, zeros)
    if not (values < 0).any():
        return values
    # H + s has no negative eigenvalue for s = |the most negative one|, so that its largest in magnitude is the top one.
    shift = (-values).clamp(min=0)
    shifted = _power_iteration(loss, seeds, settings, shift)
    return torch.where(shift > 0, shifted - shift, values)


def _power_iteration(loss: TrainingLoss, seeds: Sequence[int], settings: Hessian, shift: Tensor) -> Tensor:
    """The eigenvalue of H + shift that is largest in magnitude [K]; a model that has converged stays as it is."""
    models = len(seeds)
    unit = lift(lambda tree: {name: leaf / (norm(tree) + 1e-30) for name, leaf in tree.items()}, models)
    inner = lift(dot, models)
    add = lift(lambda tree, by, other: {name: leaf + by * other[name] for name, leaf in tree.items()}, models)
    vector = unit(random_vectors(loss.params, seeds, "power iteration"))
    values = torch.full_like(shift, torch.nan)
    done = torch.zeros_like(shift, dtype=torch.bool)
    for _ in range(settings.iterations):
        product = add(loss.hessian_product(vector), shift, vector)
        quotients = inner(product, vector)
        settled = (quotients - values).abs() <= settings.tolerance * quotients.abs()
        values = torch.where(done, values, quotients)
        done |= settled | ~quotients.isfinite()
        if done.all():
            break
        vector = unit(product)
    return values


def trace(loss: TrainingLoss, seeds: Sequence[int], probes: int) -> Tensor:
    """Hutchinson's estimate of the Hessian's trace [K]: the mean of v·Hv over vectors of ±1."""
    inner = lift(dot, len(seeds))
    estimates = []
    for probe in range(probes):
        normal = random_vectors(loss.params, seeds, "trace", probe)
        vector = {name: torch.where(leaf < 0, -1.0, 1.0).to(leaf.dtype) for name, leaf in normal.items()}
        estimates.append(inner(vector, loss.hessian_product(vector)))
    return torch.stack(estimates).mean(0)


def random_vectors(params: Tree, seeds: Sequence[int], *names: str | int) -> Tree:
    """Standard normal leaves [K, ...], which follow from each model's seed."""
    rows = []
    for seed in seeds:
        generator = stream(seed, "diagnostics", *names)
        rows.append({name: torch.randn(leaf.shape[1:], generator=generator) for name, leaf in params.items()})
    return {name: torch.stack([row[name] for row in rows]).to(leaf) for name, leaf in params.items()}
