"""Gradient accumulation: gradient, scalars and state are means over micro-batches."""

import copy

import pytest
import references
import torch
from networks import CLASSES, FEATURES
from populations import batches, middle
from torch import Tensor, nn

from hpo import Configuration, Mnist1d, Study
from hpo.errors import UsageError
from hpo.gradients.objective import Objective
from hpo.models import MLP
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.training.population import Population
from hpo.training.population_size import Cost, population_size
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

RATE = 0.1
SGD = {"learning_rate": RATE, "weight_decay": 0.0, "momentum": 0.0}


def population_of(modules: list[nn.Module], regularizer: str, accumulate: int) -> Population:
    hyper = SGD | middle(REGULARIZERS[regularizer])
    tensors = {name: torch.full((len(modules),), value, dtype=torch.float64) for name, value in hyper.items()}
    example = batches([0])[0][0, 0]
    parts = REGULARIZERS[regularizer], OPTIMIZERS["sgd"]
    return Population(modules, *parts, tensors, references.cross_entropy, example, accumulate=accumulate)


def mean_of(trees: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: sum(tree[name] for tree in trees) / len(trees) for name in trees[0]}


def slow_step(
    module: nn.Module, name: str, inputs: Tensor, labels: Tensor, count: int, memory: references.Memory
) -> dict[str, float]:
    """One step of plain SGD with the mean gradient of `count` micro-batches; returns the mean scalars."""
    gradients, scalars, memories = [], [], []
    for views, classes in zip(inputs.chunk(count, 1), labels.chunk(count), strict=True):
        memories.append(copy.deepcopy(memory))
        batch = references.Batch(copy.deepcopy(module), views, classes)
        gradient, values = references.REGULARIZERS[name](batch, middle(REGULARIZERS[name]), memories[-1])
        gradients.append(gradient)
        scalars.append({key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()})
    memory.update({key: mean_of([each[key] for each in memories]) for key in memories[0]})
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            parameter -= RATE * mean_of(gradients)[key]
    return {key: value.item() for key, value in mean_of(scalars).items()}


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("members", [1, 2])
def test_steps_are_those_of_a_loop_over_micro_batches(name: str, members: int) -> None:
    views, count = REGULARIZERS[name].views, 2
    samples = 80 if views == 2 else 8  # so that GVR's 32 are not all
    modules = [MLP((FEATURES, 5, CLASSES))().double() for _ in range(members)]
    population = population_of(modules, name, count)
    memories: list[references.Memory] = [{} for _ in modules]
    for number in range(3):
        inputs, labels = batches([10 * member + number for member in range(members)], samples, views)
        scalars = population.step(inputs, labels)
        for member, module in enumerate(modules):
            expected = slow_step(module, name, inputs[member], labels[member], count, memories[member])
            for key, value in expected.items():
                assert scalars[f"aux/{key}"][member].item() == pytest.approx(value, rel=1e-8)
            for key, parameter in module.named_parameters():
                torch.testing.assert_close(population.params[key][member], parameter.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("members", [1, 2])
def test_a_regularizer_may_change_its_dict_of_hyperparameters(members: int) -> None:
    def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
        hyper["strength"] = 2 * hyper["strength"]
        return objective.grad(params), state, {"strength": hyper["strength"]}

    modules: list[nn.Module] = [MLP((FEATURES, 5, CLASSES))().double() for _ in range(members)]
    tensors = {name: torch.full((members,), value) for name, value in (SGD | {"strength": 0.5}).items()}
    regularizer = Regularizer("doubles", grads, {"strength": 0.5})
    parts = regularizer, OPTIMIZERS["sgd"], tensors, references.cross_entropy, batches([0])[0][0, 0]
    population = Population(modules, *parts, accumulate=4)
    assert population.step(*batches(range(members)))["aux/strength"].tolist() == [1.0] * members


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("members", [1, 2])
def test_a_batch_of_one_sample_is_trained_on(name: str, members: int) -> None:
    """As last_batch="keep" may leave it; GNVR has no penalty there."""
    modules = [MLP((FEATURES, 5, CLASSES))().double() for _ in range(members)]
    population = population_of(modules, name, 1)
    inputs, labels = batches(range(members), 1, REGULARIZERS[name].views)
    population.step(inputs, labels)
    for member, module in enumerate(modules):
        slow_step(module, name, inputs[member], labels[member], 1, {})
        for key, parameter in module.named_parameters():
            torch.testing.assert_close(population.params[key][member], parameter.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_the_plain_gradient_is_that_of_the_whole_minibatch(count: int) -> None:
    module = MLP((FEATURES, 5, CLASSES))().double()
    inputs, labels = batches([1])
    parameters = []
    for accumulate in (1, count):
        population = population_of([copy.deepcopy(module)], "none", accumulate)
        loss = population.step(inputs, labels)["train_loss"]
        parameters.append((population.params, loss))
    torch.testing.assert_close(parameters[0], parameters[1], rtol=1e-12, atol=1e-12)


def test_batch_statistics_pass_through_all_micro_batches() -> None:
    """As in a loop that calls the network for each micro-batch before one update."""
    module = nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, CLASSES)).double()
    population = population_of([copy.deepcopy(module)], "none", 4)
    for number in range(3):
        inputs, labels = batches([number], samples=16)
        population.step(inputs, labels)
        module.zero_grad()
        for views, classes in zip(inputs[0, 0].chunk(4), labels[0].chunk(4), strict=True):
            (nn.functional.cross_entropy(module(views), classes) / 4).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= RATE * parameter.grad
    for key, value in module.state_dict().items():
        stacked = population.params.get(key, population.buffers.get(key))
        torch.testing.assert_close(stacked[0], value, rtol=1e-10, atol=1e-12)


def study(batch_size: int, accumulate: int) -> Study:
    configurations = (Configuration("A"), Configuration("B", regularizer="sam"))
    options = {"batch_size": batch_size, "accumulate": accumulate}
    return Study(Mnist1d(samples=100), MLP((40, 8, 10)), configurations, baseline="A", **options)


def test_micro_batches_are_equal_parts() -> None:
    assert study(12, 4).accumulate == 4
    for batch_size, accumulate in ((12, 5), (4, 8), (4, 0)):
        with pytest.raises(UsageError, match="accumulate"):
            study(batch_size, accumulate)


def test_micro_batches_let_more_models_fit_into_memory() -> None:
    cost = Cost(operations=1.0, outputs=1e6, parameters=1)
    whole, parts = (population_size(cost, 64, "cpu", 10e9, accumulate) for accumulate in (1, 4))
    assert parts == pytest.approx(4 * whole, abs=4)
