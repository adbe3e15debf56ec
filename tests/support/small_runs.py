"""A few steps of a small population with a part that may be wrong."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import CLASSES, FEATURES, minibatch
from torch import Tensor

from hpo.errors import UsageError
from hpo.gradients.objective import Objective
from hpo.models import MLP
from hpo.models.losses import cross_entropy
from hpo.optim.optimizers import OPTIMIZERS, Optimizer
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.training.population import Population
from hpo.tree import Tree

NETWORK = MLP((FEATURES, 5, CLASSES))
SGD = {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.0}
SIZES = pytest.mark.parametrize("members", [1, 3])

Grads = Callable[[Objective, Tree, Any, Tree], Any]


def run(
    members: int,
    regularizer: Regularizer = REGULARIZERS["none"],
    model: Callable[[], Any] = NETWORK,
    loss: Any = cross_entropy,
    optimizer: Optimizer | TorchOptimizer = OPTIMIZERS["sgd"],
    steps: int = 4,
) -> tuple[Population, list[Tree]]:
    """A population after some steps in float32, and the scalars of each step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = [model() for _ in range(members)]
    values = SGD | dict.fromkeys(regularizer.hyperparameters, 0.5)
    if isinstance(optimizer, TorchOptimizer):
        values |= optimizer.hyperparameters
    hyper = {name: torch.full((members,), value) for name, value in values.items()}
    population = Population(modules, regularizer, optimizer, hyper, loss, minibatch(0)[0][0].float())
    scalars = []
    for number in range(steps):
        batches = [minibatch(10 * number + member, views=regularizer.views) for member in range(members)]
        inputs, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
        scalars.append(population.step(inputs.float(), labels))
    return population, scalars


def assert_trains(members: int, **parts: Any) -> None:
    assert run(members, **parts)[1][-1]["train_loss"].isfinite().all()


def error_message(members: int, **parts: Any) -> str:
    """The one line that a run ends with."""
    with pytest.raises(UsageError) as caught:
        run(members, **parts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_refused(members: int, *fragments: str, **parts: Any) -> None:
    """A run ends with one line that has these fragments."""
    text = error_message(members, **parts)
    assert all(fragment in text for fragment in fragments), text


def assert_same_losses(one: list[Tree], other: list[Tree], **tolerance: float) -> None:
    for first, second in zip(one, other, strict=True):
        torch.testing.assert_close(first["train_loss"], second["train_loss"], **tolerance)


def custom(grads: Grads, init: Callable[[], Any] = dict) -> Regularizer:
    return Regularizer("mine", grads, {"strength": 0.5}, lambda _: init())


def with_scalar(compute: Grads) -> Regularizer:
    """The plain gradient, and a scalar that uses the objective."""
    return custom(lambda objective, params, state, hyper: (
        objective.grad(params), state, {"scalar": compute(objective, params, state, hyper)}
    ))  # fmt: skip


def with_state(change: Callable[[Any], Any], init: Callable[[], Any]) -> Regularizer:
    """The plain gradient, and a state that changes."""
    return custom(lambda objective, params, state, _: (objective.grad(params), change(state), {}), init)


def with_gradient(change: Callable[[Tree], Any]) -> Regularizer:
    """A changed gradient."""
    return custom(lambda objective, params, state, _: (change(objective.grad(params)), state, {}))


def seen() -> dict[str, Tensor]:
    """A state of one leaf."""
    return {"seen": torch.zeros(())}
