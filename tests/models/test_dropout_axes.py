"""Dropout wherever the samples are: on any axis, folded into another, or nowhere, as in weights; also of channels."""

from collections.abc import Callable

import pytest
import references
import torch
import torch.nn.functional as F
from populations import moment, populate
from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.models.dropout import Dropout
from hpo.optim.regularizers import REGULARIZERS

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLES, TIMES, WIDTH, CLASSES = 8, 8, 5, 3  # as many times as samples


class Dropped(nn.Module):
    """Dropout of hidden values, rearranged by `drop`, and then a classifier."""

    def __init__(self, drop: Callable[[nn.Module, Tensor], Tensor], dropout: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(TIMES * WIDTH, CLASSES)
        self.dropout, self.drop = dropout or nn.Dropout(0.4), drop

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.drop(self.dropout, self.first(inputs).tanh()).flatten(1))


class Connections(nn.Module):
    """DropConnect: Dropout of a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(TIMES * WIDTH, CLASSES)
        self.dropout = nn.Dropout(0.4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(F.linear(inputs, self.dropout(self.first.weight), self.first.bias).tanh().flatten(1))


def image(dropout: nn.Module, hidden: Tensor) -> Tensor:
    return dropout(hidden.unflatten(1, (4, 2))).flatten(1, 2)


def volume(dropout: nn.Module, hidden: Tensor) -> Tensor:
    return dropout(hidden.unflatten(1, (2, 2, 2))).flatten(1, 3)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "samples first": lambda: Dropped(lambda drop, hidden: drop(hidden)),
    "times first": lambda: Dropped(lambda drop, hidden: drop(hidden.transpose(0, 1)).transpose(0, 1)),
    "samples last": lambda: Dropped(lambda drop, hidden: drop(hidden.movedim(0, -1)).movedim(-1, 0)),
    "adjacent": lambda: Dropped(lambda drop, hidden: drop(hidden.flatten(0, 1)).unflatten(0, (-1, TIMES))),
    "strided": lambda: Dropped(
        lambda drop, hidden: drop(hidden.transpose(0, 1).flatten(0, 1)).unflatten(0, (TIMES, -1)).transpose(0, 1)
    ),
    "both": lambda: Dropped(lambda drop, hidden: drop(drop(hidden).transpose(0, 1)).transpose(0, 1)),
    "weights": Connections,
    "channels of sequences": lambda: Dropped(lambda drop, hidden: drop(hidden), nn.Dropout1d(0.4)),
    "channels of images": lambda: Dropped(image, nn.Dropout2d(0.4)),
    "channels of sequences in two dimensions": lambda: Dropped(lambda drop, hidden: drop(hidden), nn.Dropout2d(0.4)),
    "channels of volumes": lambda: Dropped(volume, nn.Dropout3d(0.4)),
}


def build(name: str, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name]().double().train()


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SAMPLES, TIMES, WIDTH, generator=generator, dtype=torch.float64)
    return inputs, torch.arange(SAMPLES) % CLASSES


def outputs(network: Network, inputs: Tensor, places: list[int], key: int = 3) -> Tensor:
    params = {name: value.detach() for name, value in network.module.named_parameters()}
    return network.run(params, inputs, {}, (torch.tensor(key), torch.tensor(places)))[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_samples_mask_does_not_depend_on_the_other_samples(name: str) -> None:
    network, inputs = Network(build(name), batch()[0]), batch()[0]
    together = outputs(network, inputs, list(range(SAMPLES)))
    order = [5, 2, 7]
    torch.testing.assert_close(outputs(network, inputs[order], order), together[order], rtol=1e-12, atol=1e-12)
    for position in range(SAMPLES):
        solo = outputs(network, inputs[[position]], [position])
        torch.testing.assert_close(solo[0], together[position], rtol=1e-12, atol=1e-12)
    assert (outputs(network, inputs, list(range(SAMPLES)), key=4) - together).abs().max() > 1e-2
    same = outputs(network, inputs[[0, 0]], [0, 1])
    assert torch.equal(same[0], same[1]) == (name == "weights"), "samples differ in their masks, and share weights"


@pytest.mark.parametrize("name", NETWORKS)
def test_every_pass_of_a_step_has_the_same_masks(name: str) -> None:
    module = build(name, 1)
    inputs, labels = batch(2)
    objective = Objective(
        Network(module, inputs), references.cross_entropy, inputs[None], labels, {}, moment(torch.tensor(7))
    )
    params = {key: value.detach() for key, value in module.named_parameters()}
    gradient = objective.grad(params)
    means = {key: leaf.mean(0) for key, leaf in objective.sample_grads(params).items()}
    torch.testing.assert_close(means, gradient, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(objective.mean_grad(params), gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("regularizer", ["none", "gnvr", "clip_sample"])
def test_stack_equals_solo(name: str, regularizer: str) -> None:
    settings = {"learning_rate": 0.3, "weight_decay": 0.0, "momentum": 0.9}
    settings |= dict.fromkeys(REGULARIZERS[regularizer].hyperparameters, 0.5)

    def run(seeds: list[int]) -> dict[str, Tensor]:
        modules = [build(name, seed) for seed in seeds]
        population = populate(modules, REGULARIZERS[regularizer], [settings] * len(seeds), example=batch()[0])
        for step in range(5):
            inputs, labels = (
                torch.stack(parts) for parts in zip(*(batch(10 * seed + step) for seed in seeds), strict=True)
            )
            population.step(inputs[:, None], labels, moment=moment(torch.tensor([100 * seed + step for seed in seeds])))
        return population.params

    together = run([0, 1, 2])
    for seed in range(3):
        for key, leaf in run([seed]).items():
            torch.testing.assert_close(together[key][seed], leaf[0], rtol=1e-10, atol=1e-12)


def masks(p: float, shape: tuple[int, ...], key: int, layer: nn.Module | None = None, calls: int = 1) -> list[Tensor]:
    """What is kept of ones, for inputs [N, ...] without parameters in between."""

    class Masks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.dropout = layer or nn.Dropout(p)

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.stack([self.dropout(inputs * self.scale) for _ in range(calls)], 1)

    network = Network(Masks().train(), torch.ones(shape))
    result = network.run({"scale": torch.ones(())}, torch.ones(shape), {}, (torch.tensor(key), torch.arange(shape[0])))[
        0
    ]
    return list(result.unbind(1))


@pytest.mark.parametrize("layer", [nn.Dropout1d, nn.Dropout2d])
def test_channels_are_dropped_whole(layer: type[nn.Module]) -> None:
    shape = (100, 50, 4) if layer is nn.Dropout1d else (100, 50, 2, 2)
    first, second = masks(0.3, shape, key=1, layer=layer(0.3), calls=2)
    rows = first.flatten(2)
    assert torch.equal(rows, rows[..., :1].expand_as(rows))
    assert rows[..., 0].gt(0).double().mean().item() == pytest.approx(0.7, abs=5 * (0.21 / 5000) ** 0.5)
    assert len({tuple(row) for row in rows[..., 0].tolist()}) == 100, "every sample has its own channels"
    assert not torch.equal(first, second)


def test_samples_on_two_axes_are_refused() -> None:
    module = Dropped(lambda drop, hidden: drop(hidden.flatten(1) @ hidden.flatten(1).mT) @ hidden.flatten(1))
    network = Network(module.double().train(), batch()[0])
    with pytest.raises(UsageError, match="one axis for the samples"):
        outputs(network, batch()[0], list(range(SAMPLES)))


def test_channels_without_an_axis_of_samples_are_refused() -> None:
    network = Network(Dropped(lambda drop, hidden: drop(hidden.flatten(1)), nn.Dropout1d(0.4)).double(), batch()[0])
    with pytest.raises(UsageError, match=r"\(8, 40\); give it 3 axes"):
        outputs(network, batch()[0], list(range(SAMPLES)))


def test_a_layer_that_is_used_more_often_later_is_refused() -> None:
    times = [1]

    def repeated(drop: nn.Module, hidden: Tensor) -> Tensor:
        for _ in range(times[0]):
            hidden = drop(hidden)
        return hidden

    module = Dropped(repeated).double().train()
    network = Network(module, batch()[0])
    outputs(network, batch()[0], list(range(SAMPLES)))
    times[0] = 2
    with pytest.raises(UsageError, match=r"called 2 times .* 1 times before"):
        outputs(network, batch()[0], list(range(SAMPLES)))


def test_without_a_seed_pytorch_draws_channels_too() -> None:
    module = nn.Sequential(nn.Dropout2d(0.5))
    Network(nn.Sequential(module, nn.Linear(4, 4)), torch.ones(2, 3, 4, 4))
    assert isinstance(module[0], Dropout)
    kept = module.train()(torch.ones(50, 20, 4, 4)).flatten(2)
    assert torch.equal(kept, kept[..., :1].expand_as(kept))
    assert set(kept.unique().tolist()) == {0.0, 2.0}
