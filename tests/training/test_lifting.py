"""Networks with large convolutions over images train one model after the other, with the results of a lifted one."""

from typing import Any

import pytest
import torch
from populations import middle, populate

from hpo.models import MLP, ResNet
from hpo.optim.regularizers import REGULARIZERS
from hpo.training import lifting
from hpo.training.lifting import lift, lift_in_turn, lifting_for
from hpo.training.operation_counter import OperationCounter
from hpo.training.population import Population

pytestmark = pytest.mark.usefixtures("one_thread")
SGD = {"weight_decay": 0.01, "momentum": 0.9}
SMALL = ResNet(norm="group", width=4)


def operations(network: Any, *shape: int) -> OperationCounter:
    with OperationCounter() as counter, torch.no_grad():
        network().eval()(torch.zeros(1, *shape))
    return counter


def test_operations_over_images_are_counted() -> None:
    counter = operations(lambda: torch.nn.Conv2d(3, 5, 3, padding=1, bias=False), 3, 8, 8)
    assert counter.in_images == counter.operations == 2 * 3 * 5 * 9 * 8 * 8
    counter = operations(MLP((40, 256, 10)), 40)
    assert counter.in_images == 0 and counter.operations == 2 * (40 * 256 + 256 * 10)


def test_only_large_convolutions_on_a_cpu_are_computed_in_turn() -> None:
    images = torch.zeros(1, 3, 32, 32)
    assert lifting_for(operations(ResNet(norm="group"), 3, 32, 32).in_images, images) is lift_in_turn
    assert lifting_for(operations(SMALL, 3, 32, 32).in_images, images) is lift
    assert lifting_for(1e12, images.to("meta")) is lift


def test_functions_in_turn_see_one_model_each() -> None:
    seen: list[Any] = []

    def function(x: torch.Tensor, tree: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append(x.shape)
        return {"product": x * tree["factor"], "sum": x.sum()}

    x, factors = torch.arange(6.0).view(3, 2), torch.tensor([1.0, 10, 100])
    result = lift_in_turn(function, 3)(x, {"factor": factors})
    torch.testing.assert_close(result, {"product": x * factors[:, None], "sum": x.sum(1)})
    assert seen == [(2,)] * 3


def trained(name: str) -> tuple[Population, dict[str, torch.Tensor]]:
    """A population of three after a step in float64, with its scalars and the metrics before it."""
    torch.manual_seed(0)
    regularizer, samples = REGULARIZERS[name], 5
    inputs = torch.randn(3, regularizer.views + regularizer.clean_view, samples, 3, 8, 8, dtype=torch.float64)
    labels = torch.randint(10, (3, samples))
    settings = [middle(regularizer) | {"learning_rate": rate} | SGD for rate in (1e-4, 2e-4, 3e-4)]
    population = populate([SMALL().double() for _ in settings], regularizer, settings, example=inputs[0, 0])
    indices = torch.arange(3 * samples).view(3, -1)
    (metrics,) = population.evaluate(inputs[:, 0].flatten(0, 1), indices, torch.ones(3, samples), labels)
    return population, metrics | population.step(inputs, labels)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_models_in_turn_get_the_results_of_a_lifted_population(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    population, expected = trained(name)
    assert population._lift is lift
    monkeypatch.setattr(lifting, "MANY_OPERATIONS", 0)
    in_turn, scalars = trained(name)
    assert in_turn._lift is lift_in_turn
    torch.testing.assert_close(scalars, expected, rtol=1e-6, atol=1e-9)
    for leaf, values in in_turn.params.items():
        size = max(1.0, float(population.params[leaf].abs().max()))
        torch.testing.assert_close(values, population.params[leaf], rtol=0, atol=1e-9 * size)
