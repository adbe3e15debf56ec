"""A stack of models trains as its models alone, and members do not affect each other."""

import math

import networks
import pytest
import references
import torch
from torch import nn

from hpo.gradients.objective import Objective
from hpo.optim.optimizers import OPTIMIZERS, Optimizer
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.search_space import Range
from hpo.training import evaluator
from hpo.training.population import Population
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 4


def settings(regularizer: Regularizer, optimizer: Optimizer, members: int) -> list[dict[str, float]]:
    """Different hyperparameters for every member, spread over the default ranges."""
    defaults = {**optimizer.hyperparameters, **regularizer.hyperparameters}
    shares = [(member + 1) / (members + 1) for member in range(members)]

    def value(entry: Range | float, share: float) -> float:
        if not isinstance(entry, Range):
            return float(entry)
        if entry.log:
            return math.exp(math.log(entry.low) * (1 - share) + math.log(entry.high) * share)
        return entry.low * (1 - share) + entry.high * share

    return [{name: value(entry, share) for name, entry in defaults.items()} for share in shares]


def build(
    modules: list[nn.Module],
    regularizer: Regularizer,
    optimizer: Optimizer,
    chosen: list[dict[str, float]],
    dtype: torch.dtype = torch.float64,
) -> Population:
    hyper = {name: torch.tensor([each[name] for each in chosen], dtype=dtype) for name in chosen[0]}
    example = networks.minibatch(seed=0)[0][0].to(dtype)
    return Population(modules, regularizer, optimizer, hyper, references.cross_entropy, example)


def step(population: Population, members: list[int], number: int, dtype: torch.dtype = torch.float64) -> Tree:
    """One step, every member on its own minibatch."""
    views = population.regularizer.views
    batches = [networks.minibatch(1000 * member + number, views=views) for member in members]
    inputs, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
    return population.step(inputs.to(dtype), labels, factors={"learning_rate": 1 / (number + 1)})


def members_of(tree: Tree, member: int) -> Tree:
    return {name: leaf[member] for name, leaf in tree.items()}


def assert_close(actual: Tree, expected: Tree, tolerance: float = 1e-10) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=tolerance, atol=tolerance, msg=name)


# Layer rules with every optimizer; gradients without rules with an optimizer that depends on their memory layout.
PAIRS = [("MLP", name) for name in OPTIMIZERS] + [("tied weights", "adamw")]


@pytest.mark.parametrize(("network", "optimizer"), PAIRS)
@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
def test_stack_equals_solo(regularizer: Regularizer, optimizer: str, network: str) -> None:
    """A population of one runs without vmap; that and a stack of two are the same."""
    chosen = settings(regularizer, OPTIMIZERS[optimizer], members=2)
    together = build([networks.build(network, seed) for seed in range(2)], regularizer, OPTIMIZERS[optimizer], chosen)
    alone = [
        build([networks.build(network, seed)], regularizer, OPTIMIZERS[optimizer], [values])
        for seed, values in enumerate(chosen)
    ]
    before = {name: leaf.clone() for name, leaf in together.params.items()}
    for number in range(STEPS):
        scalars = step(together, [0, 1], number)
        for member, solo in enumerate(alone):
            assert_close(members_of(scalars, member), members_of(step(solo, [member], number), 0))
    for member, solo in enumerate(alone):
        assert_close(members_of(together.params, member), members_of(solo.params, 0))
    assert all((together.params[name] - before[name]).abs().max() > 1e-6 for name in before)


def test_the_order_of_members_does_not_matter() -> None:
    """The same members in another order, with another one between them."""
    regularizer, optimizer = REGULARIZERS["gnvr"], OPTIMIZERS["adamw"]
    chosen = settings(regularizer, optimizer, members=3)
    params = {}
    for order in ([0, 1], [1, 2, 0]):
        modules = [networks.build("MLP", seed) for seed in order]
        population = build(modules, regularizer, optimizer, [chosen[member] for member in order])
        for number in range(STEPS):
            step(population, order, number)
        params[len(order)] = {member: members_of(population.params, place) for place, member in enumerate(order)}
    for member in (0, 1):
        assert_close(params[2][member], params[3][member])


ILL = {"learning rate": 1, "weights": 2, "inputs": 4}
WELL = [0, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", ["nesterov", "adamw"])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_diverging_members_do_not_change_their_neighbours(regularizer: str, optimizer: str, dtype: torch.dtype) -> None:
    """Bit by bit as in a run of the same size in which all members are healthy."""
    views = REGULARIZERS[regularizer].views
    results = {}
    for healthy in (True, False):
        chosen = settings(REGULARIZERS[regularizer], OPTIMIZERS[optimizer], members=5)
        modules = [networks.build("MLP", seed).to(dtype) for seed in range(5)]
        if not healthy:
            chosen[ILL["learning rate"]]["learning_rate"] = 1e30 if dtype is torch.float32 else 1e200
            nn.init.constant_(next(modules[ILL["weights"]].parameters()), float("nan"))
        population = build(modules, REGULARIZERS[regularizer], OPTIMIZERS[optimizer], chosen, dtype)
        for number in range(STEPS):
            batches = [networks.minibatch(10 * member + number, views=views) for member in range(5)]
            inputs, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
            if not healthy:
                inputs[ILL["inputs"]] = float("inf")
            scalars = population.step(inputs.to(dtype), labels)
        results[healthy] = (population.params, scalars)
    for illness, member in ILL.items():
        assert not all(leaf[member].isfinite().all() for leaf in results[False][0].values()), illness
    for well, ill in zip(results[True], results[False], strict=True):
        for name in well:
            assert torch.equal(well[name][WELL], ill[name][WELL]), name


@pytest.mark.parametrize("at_once", [7, 16384])
@pytest.mark.parametrize("members", [1, 3])
def test_evaluation_equals_a_loop_over_single_samples(
    members: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any chunk size; samples of weight 0 are left out even if they are NaN."""
    monkeypatch.setitem(evaluator.EVALUATED_SAMPLES, "cpu", at_once)
    modules = [networks.build("MLP", seed) for seed in range(members)]
    chosen = settings(REGULARIZERS["none"], OPTIMIZERS["sgd"], members)
    population = build(modules, REGULARIZERS["none"], OPTIMIZERS["sgd"], chosen)
    samples, labels = networks.minibatch(seed=5, samples=20)[0][0], torch.arange(20) % networks.CLASSES
    samples[0] = float("nan")
    shuffled = [torch.randperm(19, generator=torch.Generator().manual_seed(seed)) for seed in range(members)]
    places = 1 + torch.stack(shuffled)[:, :13]
    weights = torch.ones(members, 13)
    places[0, 9:], weights[0, 9:] = 0, 0  # the first member has fewer samples; its padding is the NaN
    kinds = [labels, (labels + 1) % networks.CLASSES]
    actual = population.evaluate(samples, places, weights, *(given[places] for given in kinds))
    for given, metrics in zip(kinds, actual, strict=True):
        loss, accuracy = metrics["loss"], metrics["accuracy"]
        for member, module in enumerate(modules):
            positions = places[member][weights[member] > 0]
            expected = references.evaluate(module, samples[positions], given[positions])
            assert (loss[member].item(), accuracy[member].item()) == pytest.approx(expected, rel=1e-12)


def test_every_member_has_its_own_regularizer_state() -> None:
    """A running mean of gradients, by hand for every member."""

    def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
        gradient = objective.grad(params)
        kept = {name: hyper["keep"] * state[name] + gradient[name] for name in gradient}
        return kept, kept, {}

    heavy = Regularizer("heavy ball", grads, {"keep": 0.5}, init=lambda p: {n: torch.zeros_like(p[n]) for n in p})
    plain = {"learning_rate": 0.1, "weight_decay": 0.0}
    keeps = [0.0, 0.5, 0.9]
    modules = [networks.build("MLP", seed) for seed in range(3)]
    actual = build(modules, heavy, OPTIMIZERS["sgd"], [plain | {"keep": keep, "momentum": 0.0} for keep in keeps])
    modules = [networks.build("MLP", seed) for seed in range(3)]
    expected = build(modules, REGULARIZERS["none"], OPTIMIZERS["sgd"], [plain | {"momentum": keep} for keep in keeps])
    for number in range(STEPS):
        for population in (actual, expected):
            step(population, [0, 1, 2], number)
    assert_close(actual.params, expected.params)
