"""Layers and networks that mix samples, and regularizers that return what is no gradient of the parameters."""

import copy
from collections.abc import Callable

import pytest
import references
import torch
from networks import CLASSES, FEATURES, minibatch
from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.gradients.objective import Objective
from hpo.models import ConvNet1d
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.search_space import Range
from hpo.training.population import Population
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

SINGLE_SAMPLES = ["gnvr", "sgsc", "clip_sample", "rogc"]
WHOLE_BATCH = [name for name in REGULARIZERS if name not in SINGLE_SAMPLES]
STEPS, RATE = 3, 0.3
SGD = {"learning_rate": RATE, "weight_decay": 0.0, "momentum": 0.0}


def features() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, CLASSES))


def images() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 2, padding=1, bias=False), nn.BatchNorm2d(4, momentum=0.3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(nn.Unflatten(1, (1, 2, 3)), *layers, nn.Linear(48, CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "features": features,
    "sequences": ConvNet1d(features=FEATURES, classes=CLASSES, channels=4, norm="batch"),
    "images": images,
}


def build(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def settings(regularizer: Regularizer, member: int) -> dict[str, float]:
    return {
        name: (1 - member / 4) * (entry.middle() if isinstance(entry, Range) else entry)
        for name, entry in regularizer.hyperparameters.items()
    }


def populate(modules: list[nn.Module], regularizer: Regularizer, members: list[int]) -> Population:
    chosen = [SGD | settings(regularizer, member) for member in members]
    hyper = {name: torch.tensor([each[name] for each in chosen], dtype=torch.float64) for name in chosen[0]}
    sgd = OPTIMIZERS["sgd"]
    return Population(modules, regularizer, sgd, hyper, references.cross_entropy, minibatch(0)[0][0])


def batches(regularizer: Regularizer, members: list[int], number: int) -> tuple[Tensor, Tensor]:
    """inputs [K, V, N, 6], not centred, and labels [K, N]."""
    samples = 40 if regularizer.views == 2 else 10  # so that GVR's 32 are not all
    each = [minibatch(100 * member + number, samples=samples, views=regularizer.views) for member in members]
    inputs, labels = (torch.stack(parts) for parts in zip(*each, strict=True))
    return 2 * inputs + 1, labels


def buffers_after(module: nn.Module, inputs: Tensor) -> Tree:
    """What one pass in training makes of the statistics, by a plain call."""
    module = copy.deepcopy(module).train()
    with torch.no_grad():
        module(inputs)
    return dict(module.named_buffers())


@pytest.mark.parametrize("name", WHOLE_BATCH)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("members", [1, 3])
def test_steps_and_statistics_are_those_of_a_plain_loop(network: str, name: str, members: int) -> None:
    """The statistics are the first pass's at the unmoved weights, however many passes a step makes."""
    regularizer = REGULARIZERS[name]
    modules = [build(NETWORKS[network], seed) for seed in range(members)]
    population = populate([copy.deepcopy(module) for module in modules], regularizer, list(range(members)))
    memories: list[references.Memory] = [{} for _ in modules]
    for number in range(STEPS):
        inputs, labels = batches(regularizer, list(range(members)), number)
        scalars = population.step(inputs, labels)
        for member, module in enumerate(modules):
            after = buffers_after(module, inputs[member, 0])
            batch = references.Batch(copy.deepcopy(module), inputs[member], labels[member], together=True)
            first = references.mean(batch.sample_losses()).item()
            hyper = settings(regularizer, member)
            gradient, expected = references.REGULARIZERS[name](batch, hyper, memories[member])
            with torch.no_grad():
                for key, parameter in module.named_parameters():
                    parameter -= RATE * gradient[key]
            module.load_state_dict(after, strict=False)
            assert scalars["train_loss"][member].item() == pytest.approx(first, rel=1e-9)
            for key, value in expected.items():
                assert scalars[f"aux/{key}"][member].item() == pytest.approx(value, rel=1e-8)
            for key, value in module.state_dict().items():
                found = population.params[key] if key in population.params else population.buffers[key]
                torch.testing.assert_close(found[member], value, rtol=1e-8, atol=1e-10, msg=key)
    counted = [value for key, value in population.buffers.items() if key.endswith("num_batches_tracked")]
    assert counted
    assert all(value.tolist() == [STEPS] * members for value in counted)


@pytest.mark.parametrize("name", WHOLE_BATCH)
@pytest.mark.parametrize("network", ["sequences"])
def test_stack_equals_solo(network: str, name: str) -> None:
    regularizer = REGULARIZERS[name]
    together = populate([build(NETWORKS[network], seed) for seed in range(2)], regularizer, [0, 1])
    alone = [populate([build(NETWORKS[network], seed)], regularizer, [seed]) for seed in range(2)]
    for number in range(STEPS):
        together.step(*batches(regularizer, [0, 1], number))
        for member, solo in enumerate(alone):
            solo.step(*batches(regularizer, [member], number))
    for member, solo in enumerate(alone):
        for found, expected in ((together.params, solo.params), (together.buffers, solo.buffers)):
            assert found.keys() == expected.keys()
            for key, leaf in expected.items():
                torch.testing.assert_close(found[key][member], leaf[0], rtol=1e-10, atol=1e-10, msg=key)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("members", [1, 2])
def test_evaluation_uses_the_running_statistics_and_leaves_them(network: str, members: int) -> None:
    regularizer = REGULARIZERS["sam"]
    population = populate([build(NETWORKS[network], seed) for seed in range(members)], regularizer, [0, 1][:members])
    for number in range(3):
        population.step(*batches(regularizer, [0, 1][:members], number))
        before = {key: value.clone() for key, value in population.buffers.items()}
        samples, labels = 2 * minibatch(9, samples=12)[0][0] + 1, minibatch(9, samples=12)[1]
        places = torch.arange(12).expand(members, -1)
        [found] = population.evaluate(samples, places, torch.ones(members, 12), labels[places])
        loss, accuracy = found["loss"], found["accuracy"]
        assert all(torch.equal(population.buffers[key], value) for key, value in before.items())
        for member in range(members):
            module = build(NETWORKS[network], member)
            state = {key: leaf[member] for key, leaf in (population.params | population.buffers).items()}
            module.load_state_dict(state)
            expected = references.evaluate(module.eval(), samples, labels)
            assert (loss[member].item(), accuracy[member].item()) == pytest.approx(expected, rel=1e-12)
            mixed = references.cross_entropy(module.train()(samples), labels).mean().item()
            assert mixed != pytest.approx(expected[0], rel=1e-5)


@pytest.mark.parametrize("illness", ["weights", "inputs"])
def test_a_diverging_member_leaves_its_neighbours_statistics_alone(illness: str) -> None:
    found = {}
    for healthy in (True, False):
        modules = [build(images, seed) for seed in range(3)]
        if illness == "weights" and not healthy:
            nn.init.constant_(next(modules[1].parameters()), float("nan"))
        population = populate(modules, REGULARIZERS["sam"], [0, 1, 2])
        for number in range(STEPS):
            inputs, labels = batches(REGULARIZERS["sam"], [0, 1, 2], number)
            if illness == "inputs" and not healthy:
                inputs[1] = float("inf")
            population.step(inputs, labels)
        found[healthy] = population.params | population.buffers
    assert not found[False]["2.running_mean"][1].isfinite().any()
    for key, leaf in found[True].items():
        assert torch.equal(leaf[[0, 2]], found[False][key][[0, 2]]), key


@pytest.mark.parametrize("name", SINGLE_SAMPLES)
@pytest.mark.parametrize(("network", "layer"), [("features", "'1' (BatchNorm1d)"), ("images", "'2' (BatchNorm2d)")])
@pytest.mark.parametrize("members", [1, 2])
def test_a_regularizer_of_single_samples_refuses_batchnorm_by_name(
    network: str, layer: str, name: str, members: int
) -> None:
    population = populate([build(NETWORKS[network], 0)] * members, REGULARIZERS[name], [0, 1][:members])
    for number in range(4):  # not only the first time
        with pytest.raises(UsageError) as caught:
            population.step(*batches(REGULARIZERS[name], [0, 1][:members], number))
        assert str(caught.value) == (
            f"regularizer {name!r}: layer {layer} mixes the samples of a batch, so that no sample has a gradient of "
            "its own; use a network without BatchNorm, such as norm='group'"
        )


class Centred(nn.Module):
    """Every sample less the mean of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs - inputs.mean(0))


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_network_that_mixes_samples(name: str, members: int) -> None:
    """Refused in one sentence by regularizers that ask for samples, each time; nothing else minds."""
    regularizer = REGULARIZERS[name]
    population = populate([build(Centred, 0)] * members, regularizer, [0, 1][:members])
    for number in range(4):
        minibatches = batches(regularizer, [0, 1][:members], number)
        if name in WHOLE_BATCH:
            assert population.step(*minibatches)["train_loss"].isfinite().all()
            continue
        with pytest.raises(UsageError) as caught:
            population.step(*minibatches)
        assert str(caught.value) == (
            f"regularizer {name!r}: the network mixes the samples of a batch (a sample's output depends on the "
            "others), so that no sample has a gradient of its own; choose a regularizer that does not ask for samples"
        )


def own(change: Callable[[Tree], Tree]) -> Regularizer:
    """A user's regularizer, wrong in what it does to the gradient."""

    def grads(objective: Objective, params: Tree, state: Tree, _: Tree) -> tuple[Tree, Tree, Tree]:
        return change(objective.grad(params)), state, {}

    return Regularizer("mine", grads)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda gradient: {key: leaf for key, leaf in gradient.items() if key != "linear.bias"},
            "its gradient lacks the leaf 'linear.bias'; return one for every parameter",
        ),
        (
            lambda gradient: gradient | {"penalty": gradient["linear.bias"]},
            "its gradient has a leaf 'penalty' that is no parameter; leave it out",
        ),
        (
            lambda gradient: gradient | {"linear.weight": gradient["linear.weight"].T},
            "its gradient for 'linear.weight' has shape (6, 3), and the parameter has (3, 6); return a gradient of "
            "the parameter's shape",
        ),
        (
            lambda gradient: gradient | {"linear.bias": gradient["linear.bias"].sum()},
            "its gradient for 'linear.bias' has shape (), and the parameter has (3,); return a gradient of the "
            "parameter's shape",
        ),
        (
            lambda gradient: gradient | {"linear.bias": 0.0},
            "its gradient for 'linear.bias' is 0.0; return a tensor of the parameter's shape",
        ),
        (
            lambda gradient: gradient | {"linear.bias": None},
            "its gradient for 'linear.bias' is None; return a tensor of the parameter's shape",
        ),
    ],
)
def test_a_wrong_gradient_is_told_in_one_sentence(change: Callable[[Tree], Tree], words: str, members: int) -> None:
    population = populate([build(Centred, 0)] * members, own(change), [0, 1][:members])
    with pytest.raises(UsageError) as caught:
        population.step(*batches(own(change), [0, 1][:members], 0))
    assert str(caught.value) == f"regularizer 'mine': {words}"


@pytest.mark.parametrize("members", [1, 2])
def test_a_right_gradient_in_another_order_is_taken(members: int) -> None:
    reverse = own(lambda gradient: dict(reversed(gradient.items())))
    found = populate([build(Centred, 0)] * members, reverse, [0, 1][:members])
    expected = populate([build(Centred, 0)] * members, REGULARIZERS["none"], [0, 1][:members])
    for number in range(STEPS):
        for population in (found, expected):
            population.step(*batches(reverse, [0, 1][:members], number))
    for key, leaf in expected.params.items():
        torch.testing.assert_close(found.params[key], leaf, rtol=1e-12, atol=1e-14)
