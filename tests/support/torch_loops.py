"""Small populations of all kinds of optimizers, and the plain loop over the same models in PyTorch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import references
import torch
from networks import CLASSES, FEATURES
from populations import batches
from torch import Tensor, nn

from hpo.models import MLP
from hpo.optim.optimizers import Optimizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.training.population import Population

MEMBERS, STEPS, SAMPLES = 3, 20, 8
RATES = (0.003, 0.01, 0.05)

Build = Callable[[nn.Module, float], list[torch.optim.Optimizer]]


def modules() -> list[nn.Module]:
    """Networks with matrices, vectors and a few hundred parameters, in float64."""
    networks = []
    for seed in range(MEMBERS):
        torch.manual_seed(seed)
        networks.append(MLP((FEATURES, 7, 5, CLASSES))().double())
    return networks


def populate(
    optimizer: Optimizer | TorchOptimizer, networks: Sequence[nn.Module], regularizer: str = "none", **values: Any
) -> Population:
    """A population with the learning rates RATES; `values` are other hyperparameters, groups and the average."""
    options = {name: values.pop(name) for name in ("groups", "average") if name in values}
    hyper = {name: [value] * MEMBERS for name, value in {**optimizer.hyperparameters, **values}.items()}
    hyper["learning_rate"] = list(RATES)
    tensors = {name: torch.tensor(each, dtype=torch.float64) for name, each in hyper.items()}
    example = batches([0])[0][0, 0]
    parts = REGULARIZERS[regularizer], optimizer, tensors, references.cross_entropy, example
    return Population(networks, *parts, **options)


def factor(step: int) -> float:
    return (1 + math.cos(math.pi * step / STEPS)) / 2


def batch(step: int) -> tuple[Tensor, Tensor]:
    return batches([100 * step + member for member in range(MEMBERS)], SAMPLES)


def train(population: Population, steps: range = range(STEPS)) -> None:
    for step in steps:
        population.step(*batch(step), factors={"learning_rate": factor(step)})


def plain_loop(networks: Sequence[nn.Module], build: Build, closure: bool = False, steps: range = range(STEPS)) -> None:
    """Trains each network by itself as PyTorch's documentation shows, with a learning-rate schedule."""
    for member, network in enumerate(networks):
        optimizers = build(network, RATES[member])
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        rates = [group["lr"] for group in groups]
        for step in steps:
            inputs, labels = (part[member] for part in batch(step))
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * factor(step)

            def evaluate(network: nn.Module = network, inputs: Tensor = inputs[0], labels: Tensor = labels) -> Tensor:
                network.zero_grad()
                loss = nn.functional.cross_entropy(network(inputs), labels)
                loss.backward()
                return loss

            evaluate()
            for optimizer in optimizers:
                optimizer.step(evaluate) if closure else optimizer.step()


def assert_equal(population: Population, networks: Sequence[nn.Module], tolerance: float = 1e-12) -> None:
    for member, network in enumerate(networks):
        for name, parameter in network.named_parameters():
            actual = population.params[name][member]
            torch.testing.assert_close(actual, parameter.detach(), rtol=tolerance, atol=tolerance, msg=name)
