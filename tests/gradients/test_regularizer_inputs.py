"""What a regularizer may read of a step: outputs, samples, the clean view, random draws, the step and the epoch."""

from dataclasses import dataclass

import pytest
import torch
from networks import CLASSES, FEATURES, minibatch
from populations import batches, populate
from torch import Tensor, nn

from hpo.data import Dataset, Source
from hpo.errors import UsageError
from hpo.gradients.draws import REGULARIZER, Draws, Moment
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.models import MLP
from hpo.models.losses import cross_entropy
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizer import Regularizer
from hpo.random import mix, normal, stream_key, uniform
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe, Result
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

SGD = {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.0}


class Counted(nn.Module):
    """A network that counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.passes = nn.Linear(FEATURES, CLASSES), 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes += 1
        return self.linear(inputs)


def objective_of(module: nn.Module, key: int = 3, clean_view: bool = False) -> tuple[Objective, Tree]:
    inputs, labels = minibatch(seed=1, views=2)
    moment = Moment(torch.tensor(key), torch.tensor(17), torch.tensor(4))
    network = Network(module.double(), inputs[0])
    objective = Objective(network, cross_entropy, inputs, labels, {}, moment, clean_view)
    return objective, {name: leaf.detach() for name, leaf in module.named_parameters()}


@pytest.mark.parametrize("models", [1, 2])
def test_parameters_that_the_regularizer_changes_between_two_calls(models: int) -> None:
    """By another tensor in the same dict, or in place."""

    def grads(objective: Objective, params: Tree, state: Tree, _: Tree) -> tuple[Tree, Tree, Tree]:
        def ask(at: Tree) -> Tensor:
            norms, signs = objective.sample_grad_norms(at), objective.sign_mean(at)["linear1.bias"]
            return torch.cat([objective.outputs(at).flatten(), objective.sample_losses(at), norms, signs])

        def moved(shift: float) -> Tree:
            return {name: leaf + shift for name, leaf in params.items()}

        replaced, written = moved(0), moved(0)
        wrong = 0 * (ask(replaced) + ask(written))
        for shift in (0.5, 1.0):
            replaced["linear1.weight"] = params["linear1.weight"] + shift
            written["linear1.weight"] += 0.5
            expected = ask(moved(0) | {"linear1.weight": params["linear1.weight"] + shift})
            wrong = wrong + (ask(replaced) - expected).abs() + (ask(written) - expected).abs()
        return objective.grad(params), state, {"wrong": wrong.sum()}

    modules: list[nn.Module] = [MLP((FEATURES, 5, CLASSES))().double() for _ in range(models)]
    population = populate(modules, Regularizer("changes", grads), [SGD] * models)
    scalars = population.step(*batches(range(models)))
    assert (scalars["aux/wrong"] < 1e-9).all()


def test_outputs_and_losses_share_a_pass() -> None:
    module = Counted()
    objective, params = objective_of(module)
    for view in (0, 1):
        module.passes = 0
        outputs, losses = objective.outputs(params, view), objective.sample_losses(params, view)
        assert module.passes == 1
        torch.testing.assert_close(outputs, objective.inputs(view) @ params["linear.weight"].T + params["linear.bias"])
        torch.testing.assert_close(losses, nn.functional.cross_entropy(outputs, objective.labels, reduction="none"))


def test_a_penalty_may_be_a_function_of_the_outputs() -> None:
    module = Counted()
    objective, params = objective_of(module)
    gradient, penalty = objective.penalised_grad(params, lambda at: objective.outputs(at).square().mean())
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in params.items()}
    outputs = objective.inputs() @ leaves["linear.weight"].T + leaves["linear.bias"]
    loss = nn.functional.cross_entropy(outputs, objective.labels) + outputs.square().mean()
    torch.testing.assert_close(penalty, outputs.square().mean())
    for name, expected in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
        torch.testing.assert_close(gradient[name], expected)


def test_step_and_epoch() -> None:
    objective, _ = objective_of(Counted())
    assert (objective.step.item(), objective.epoch.item()) == (17, 4)


def test_the_clean_view_is_the_last_and_has_no_number() -> None:
    objective, _ = objective_of(Counted(), clean_view=True)
    inputs, _ = minibatch(seed=1, views=2)
    assert torch.equal(objective.inputs("clean"), inputs[1])
    with pytest.raises(UsageError, match="view 1"):
        objective.inputs(1)
    with pytest.raises(UsageError, match="clean_view=True"):
        objective_of(Counted())[0].inputs("clean")


def by_hand(key: int, call: int, leaf: int, element: int) -> tuple[Tensor, Tensor]:
    """The key of a call and leaf, and the number of an element."""
    return mix(torch.tensor(key), REGULARIZER, call, leaf), torch.tensor(element)


def test_draws_follow_from_key_call_leaf_and_element() -> None:
    like = {"a": torch.zeros(2, 3, dtype=torch.float64), "b": torch.zeros(4)}
    draws = Draws(torch.tensor(11))
    normals, signs, numbers = draws.normal(like), draws.signs(like), draws.integers(like["b"], 5)
    for leaf, name in enumerate(like):
        assert normals[name].dtype == signs[name].dtype == like[name].dtype
        for element in range(like[name].numel()):
            expected = normal(*by_hand(11, 0, leaf, element)).to(like[name].dtype)
            assert normals[name].flatten()[element] == expected
            sign = 1 if int(uniform(*by_hand(11, 1, leaf, element)) * 2**24) % 2 else -1
            assert signs[name].flatten()[element] == sign
    assert numbers.tolist() == [int(uniform(*by_hand(11, 2, 0, element)) * 5) for element in range(4)]


def test_the_distributions_of_draws() -> None:
    like = torch.zeros(40_000)
    draws = Draws(torch.tensor(5))
    normals, signs, numbers = draws.normal(like), draws.signs(like), draws.integers(like, 4)
    assert normals.mean().abs() < 0.02 and (normals.std() - 1).abs() < 0.02
    assert signs.mean().abs() < 0.02 and set(signs.tolist()) == {-1, 1}
    assert all((numbers == value).float().mean().sub(0.25).abs() < 0.01 for value in range(4))
    assert torch.corrcoef(torch.stack([normals, draws.normal(like)]))[0, 1].abs() < 0.02


def test_draws_of_what_has_no_shape_are_refused() -> None:
    with pytest.raises(UsageError, match="3"):
        Draws(torch.tensor(1)).normal(3)
    with pytest.raises(UsageError, match="count=0"):
        Draws(torch.tensor(1)).integers(torch.zeros(2), 0)


def noisy(objective: Objective, params: Tree, state: Tree, _: Tree) -> tuple[Tree, Tree, Tree]:
    noise = objective.random.normal(params)
    shaken = {name: params[name] + 0.1 * noise[name] for name in params}
    return objective.grad(shaken), state, {"step": objective.step, "epoch": objective.epoch}


def test_members_draw_the_same_as_alone_and_differ_by_key() -> None:
    regularizer = Regularizer("noisy", noisy)
    modules = [MLP((FEATURES, 5, CLASSES))().double() for _ in range(3)]
    inputs, labels = batches([1, 1, 1])
    keys = torch.tensor([7, 8, 7])
    together = populate(modules[:1] * 3, regularizer, [SGD] * 3)
    together.step(inputs, labels, moment=Moment(keys, keys, keys))
    for member in range(3):
        alone = populate(modules[:1], regularizer, [SGD])
        key = keys[member : member + 1]
        alone.step(inputs[:1], labels[:1], moment=Moment(key, key, key))
        for name in alone.params:
            torch.testing.assert_close(alone.params[name][0], together.params[name][member], rtol=1e-12, atol=1e-12)
    weights = next(iter(together.params.values()))
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])


@dataclass(frozen=True)
class Shifted(Dataset):
    """Samples whose augmentation adds their key's number."""

    def load(self) -> Source:
        inputs, labels = minibatch(seed=3, samples=60)
        return Source(inputs[0, :40].float(), labels[:40], inputs[0, 40:].float(), labels[40:], CLASSES)

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        return inputs + uniform(keys, 0)[:, None]


def run(regularizer: Regularizer, dataset: Dataset) -> Result:
    network = MLP((FEATURES, 5, CLASSES))
    recipe = Recipe(dataset, dataset.load(), network, regularizer, OPTIMIZERS["sgd"], epochs=3, batch_size=8)
    return train(recipe, [Member(2, SGD), Member(3, SGD)])[0]


def test_a_run_counts_its_steps_and_epochs_and_draws_by_them() -> None:
    def grads(objective: Objective, params: Tree, state: Tree, _: Tree) -> tuple[Tree, Tree, Tree]:
        first = objective.random.integers(objective.step, 1000)
        return objective.grad(params), state, {"step": objective.step, "epoch": objective.epoch, "drawn": first}

    curves = run(Regularizer("counting", grads), Shifted(validation=0.2)).curves
    per_epoch = 32 // 8
    assert curves["aux/epoch"] == [1, 2, 3]
    assert curves["aux/step"] == [per_epoch * epoch + (per_epoch - 1) / 2 for epoch in range(3)]
    key = stream_key(2, "training")
    keys = [mix(mix(torch.tensor(key), step), REGULARIZER, 0, 0) for step in range(3 * per_epoch)]
    drawn = torch.tensor([float(int(uniform(each, torch.tensor(0)) * 1000)) for each in keys])
    torch.testing.assert_close(torch.tensor(curves["aux/drawn"]), drawn.view(3, per_epoch).mean(1))


def test_the_clean_view_of_a_run_has_no_augmentation() -> None:
    data = Shifted(validation=0.2)
    known = data.load().inputs

    def grads(objective: Objective, params: Tree, state: Tree, _: Tree) -> tuple[Tree, Tree, Tree]:
        clean = objective.inputs("clean")
        nearest = (clean[:, None] - known).abs().amax(-1).amin(1).amax()
        shift = (objective.inputs(1) - clean).mean()
        return objective.grad(params, "clean"), state, {"nearest": nearest, "shift": shift}

    curves = run(Regularizer("clean", grads, views=2, clean_view=True), data).curves
    assert curves["aux/nearest"] == [0, 0, 0]
    assert all(0.2 < shift < 0.8 for shift in curves["aux/shift"])
