"""What a model function builds: fixed by the seed, whatever it draws from, and different in its tensors only."""

import itertools
import logging
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.models import ConvNet1d, ResNet
from hpo.training.initial_models import build, check_model, check_same_attributes
from hpo.training.loop import train
from hpo.training.recipe import Member
from hpo.user_code.messages import warn_once
from tests.training.test_training import CLASSES, FEATURES, SGD, network, recipe

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = torch.linspace(-1, 1, 8 * FEATURES, dtype=torch.float64).reshape(8, FEATURES)


class Drawn(nn.Module):
    def __init__(self, numbers: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        self.layer.weight.data = torch.as_tensor(np.asarray(numbers), dtype=torch.float64)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


def by_numpy() -> nn.Module:
    return Drawn(np.random.randn(CLASSES, FEATURES))  # noqa: NPY002


def by_random() -> nn.Module:
    return Drawn([[random.gauss(0, 1) for _ in range(FEATURES)] for _ in range(CLASSES)])


def weights(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


@pytest.mark.parametrize("model", [by_numpy, by_random, network])
def test_a_seed_fixes_initial_weights_and_leaves_the_callers_generators(model: Callable[[], nn.Module]) -> None:
    def states() -> list[Any]:
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # noqa: NPY002

    before = states()
    first, repeated, other = (weights(build(model, seed)) for seed in (3, 3, 4))
    assert torch.equal(first, repeated) and not torch.equal(first, other)
    assert not torch.equal(first, weights(build(model, 3, salt=1)))
    assert states() == before
    results = [train(recipe()._replace(model=model), [Member(7, SGD)])[0].final for _ in range(2)]
    assert results[0] == results[1]


class Unlike(nn.Module):
    """A network with something that is neither parameter nor buffer."""

    def __init__(self, **extra: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        vars(self).update(extra)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


UNLIKE: dict[str, Callable[[], nn.Module]] = {
    "tensor": lambda: Unlike(projection=torch.randn(3)),
    "permutation": lambda: Unlike(order=torch.randperm(50).tolist()),
    "array": lambda: Unlike(noise=np.random.rand(4)),  # noqa: NPY002
    "number": lambda: Unlike(scale=random.random()),
    "layers in a list": lambda: Unlike(layers=[nn.Linear(2, 2)]),
    "tensors in a dict": lambda: Unlike(tensors={"a": [torch.rand(2)]}),
    "function": lambda: Unlike(activation=random.choice([torch.relu, torch.tanh, torch.sigmoid, torch.sin])),
    "closure": lambda: Unlike(activation=(lambda scale: lambda x: x * scale)(random.random())),
    "set": lambda: Unlike(chosen={random.randrange(10**6)}),
    "a layer's number": lambda: nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.LeakyReLU(random.random())),
}


@pytest.mark.parametrize("case", UNLIKE)
def test_networks_that_differ_between_seeds_in_more_than_tensors_are_refused(case: str) -> None:
    """Before training, though all trials of a tuning run share their seed."""
    with pytest.raises(UsageError, match="differs from seed to seed"):
        train(recipe()._replace(model=UNLIKE[case]), [Member(0, SGD)])


def test_a_buffer_may_differ() -> None:
    def model() -> nn.Module:
        module = Unlike()
        module.register_buffer("projection", torch.randn(3))
        return module

    check_model(model, EXAMPLES)


def test_networks_are_compared_in_every_population() -> None:
    with pytest.raises(UsageError, match="'scale' differs"):
        check_same_attributes([Unlike(scale=1.0), Unlike(scale=1.0), Unlike(scale=2.0)])
    check_same_attributes([Unlike(scale=1.0), Unlike(scale=1.0)])


@pytest.mark.parametrize("draw", [np.random.default_rng(0).random, random.Random(0).random, itertools.count().__next__])
def test_initial_weights_from_elsewhere_are_refused(draw: Callable[[], float]) -> None:
    with pytest.raises(UsageError, match="same seed"):
        check_model(lambda: Drawn(np.full((CLASSES, FEATURES), float(draw()))), EXAMPLES)


def test_equal_initial_weights_give_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def seeded() -> nn.Module:
        torch.manual_seed(42)
        return network()

    def zeros() -> nn.Module:
        module = network()
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
        return module

    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        check_model(network, EXAMPLES)
        check_model(zeros, EXAMPLES)
        assert not caplog.records
        check_model(seeded, EXAMPLES)
    assert "the same initial weights" in caplog.text


@pytest.mark.parametrize(
    "model", [ConvNet1d(), ResNet(width=4), lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))]
)
def test_usual_networks_are_accepted(model: Callable[[], nn.Module]) -> None:
    check_model(model, EXAMPLES)
