"""Populations in float64 whose members have their own settings and minibatches."""

from collections.abc import Mapping, Sequence

import torch
from networks import minibatch
from references_batch import cross_entropy
from torch import Tensor, nn

from hpo.gradients.draws import Moment
from hpo.optim.optimizers import OPTIMIZERS, Optimizer
from hpo.optim.regularizer import Regularizer
from hpo.search_space import Range
from hpo.training.population import Population


def middle(regularizer: Regularizer, factor: float = 1.0) -> dict[str, float]:
    """The middle of every range and the fixed values, times a factor."""
    entries = regularizer.hyperparameters.items()
    return {name: factor * (entry.middle() if isinstance(entry, Range) else entry) for name, entry in entries}


def populate(
    modules: list[nn.Module],
    regularizer: Regularizer,
    settings: Sequence[Mapping[str, float]],
    optimizer: str | Optimizer = "sgd",
    example: Tensor | None = None,
    bfloat16: bool = False,
) -> Population:
    """A population with a setting for each member."""
    hyper = {name: torch.tensor([each[name] for each in settings], dtype=torch.float64) for name in settings[0]}
    example = minibatch(0)[0][0] if example is None else example
    chosen = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    return Population(modules, regularizer, chosen, hyper, cross_entropy, example, bfloat16=bfloat16)


def batches(seeds: Sequence[int], samples: int = 8, views: int = 1) -> tuple[Tensor, Tensor]:
    """inputs [K, V, N, 6] and labels [K, N], one seed a member."""
    each = [minibatch(seed, samples, views) for seed in seeds]
    inputs, labels = (torch.stack(parts) for parts in zip(*each, strict=True))
    return inputs, labels


def moment(keys: Tensor) -> Moment:
    """The first step of a run, with these keys of its random draws."""
    return Moment(keys, torch.zeros_like(keys), torch.zeros_like(keys))
