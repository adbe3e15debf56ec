"""BatchNorm, which mixes samples: steps and statistics as in a plain loop, for one model and in a population."""

import copy
import re
from collections.abc import Callable

import pytest
import references
import torch
from networks import CLASSES, FEATURES, minibatch
from populations import batches, middle, populate
from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.models import ConvNet1d
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
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


def setting(regularizer: Regularizer, member: int) -> dict[str, float]:
    return SGD | middle(regularizer, 1 - member / 4)


def population_of(network: str, regularizer: Regularizer, members: int) -> Population:
    modules = [build(NETWORKS[network], seed) for seed in range(members)]
    return populate(modules, regularizer, [setting(regularizer, member) for member in range(members)])


def step_batches(regularizer: Regularizer, members: int, number: int) -> tuple[Tensor, Tensor]:
    """inputs [K, V, N, 6], not centred, and labels [K, N]."""
    samples = 40 if regularizer.views == 2 else 10  # so that GVR's 32 are not all
    inputs, labels = batches([100 * member + number for member in range(members)], samples, regularizer.views)
    return 2 * inputs + 1, labels


def buffers_after(module: nn.Module, inputs: Tensor) -> Tree:
    """The statistics after one training pass, by a plain call."""
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
    population = population_of(network, regularizer, members)
    memories: list[references.Memory] = [{} for _ in modules]
    for number in range(STEPS):
        inputs, labels = step_batches(regularizer, members, number)
        scalars = population.step(inputs, labels)
        for member, module in enumerate(modules):
            after = buffers_after(module, inputs[member, 0])
            batch = references.Batch(copy.deepcopy(module), inputs[member], labels[member], together=True)
            first = references.mean(batch.sample_losses()).item()
            hyper = setting(regularizer, member)
            gradient, expected = references.REGULARIZERS[name](batch, hyper, memories[member])
            with torch.no_grad():
                for key, parameter in module.named_parameters():
                    parameter -= RATE * gradient[key]
            module.load_state_dict(after, strict=False)
            assert scalars["train_loss"][member].item() == pytest.approx(first, rel=1e-9)
            for key, value in expected.items():
                assert scalars[f"aux/{key}"][member].item() == pytest.approx(value, rel=1e-8)
            for key, value in module.state_dict().items():
                actual = population.params[key] if key in population.params else population.buffers[key]
                torch.testing.assert_close(actual[member], value, rtol=1e-8, atol=1e-10, msg=key)
    counted = [value for key, value in population.buffers.items() if key.endswith("num_batches_tracked")]
    assert counted
    assert all(value.tolist() == [STEPS] * members for value in counted)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("members", [1, 2])
def test_evaluation_uses_the_running_statistics_and_leaves_them(network: str, members: int) -> None:
    regularizer = REGULARIZERS["sam"]
    population = population_of(network, regularizer, members)
    for number in range(3):
        population.step(*step_batches(regularizer, members, number))
        before = {key: value.clone() for key, value in population.buffers.items()}
        samples, labels = 2 * minibatch(9, samples=12)[0][0] + 1, minibatch(9, samples=12)[1]
        places = torch.arange(12).expand(members, -1)
        [actual] = population.evaluate(samples, places, torch.ones(members, 12), labels[places])
        loss, accuracy = actual["loss"], actual["accuracy"]
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
def test_a_diverging_member_does_not_change_its_neighbours_statistics(illness: str) -> None:
    actual = {}
    for healthy in (True, False):
        modules = [build(images, seed) for seed in range(3)]
        if illness == "weights" and not healthy:
            nn.init.constant_(next(modules[1].parameters()), float("nan"))
        population = populate(modules, REGULARIZERS["sam"], [setting(REGULARIZERS["sam"], k) for k in range(3)])
        for number in range(STEPS):
            inputs, labels = step_batches(REGULARIZERS["sam"], 3, number)
            if illness == "inputs" and not healthy:
                inputs[1] = float("inf")
            population.step(inputs, labels)
        actual[healthy] = population.params | population.buffers
    assert not actual[False]["2.running_mean"][1].isfinite().any()
    for key, leaf in actual[True].items():
        assert torch.equal(leaf[[0, 2]], actual[False][key][[0, 2]]), key


@pytest.mark.parametrize("name", SINGLE_SAMPLES)
@pytest.mark.parametrize(("network", "layer"), [("features", "'1' (BatchNorm1d)"), ("images", "'2' (BatchNorm2d)")])
@pytest.mark.parametrize("members", [1, 2])
def test_a_regularizer_of_single_samples_refuses_batchnorm(network: str, layer: str, name: str, members: int) -> None:
    population = population_of(network, REGULARIZERS[name], members)
    for number in range(4):  # not only the first time
        with pytest.raises(UsageError, match=re.escape(f"regularizer {name!r}: layer {layer} mixes the samples")):
            population.step(*step_batches(REGULARIZERS[name], members, number))
