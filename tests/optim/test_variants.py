"""Variants of a regularizer, compared with plain PyTorch: clipped, L2 in the loss, statistics of every pass."""

import copy

import pytest
import torch
from networks import CLASSES, FEATURES, minibatch
from populations import batches, middle, populate
from torch import Tensor, nn

from hpo import Configuration, Mnist1d, Study, clipped, l2_in_loss, statistics_of_every_pass
from hpo.errors import UsageError
from hpo.models import MLP
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.study.components import full_space
from hpo.study.definition import describe

pytestmark = pytest.mark.usefixtures("one_thread")

SGD = {"learning_rate": 1.0, "weight_decay": 0.0, "momentum": 0.0}
RHO = 0.3


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, CLASSES)).double()


def moves(module: nn.Module, regularizer: Regularizer, inputs: Tensor, labels: Tensor, **hyper: float) -> dict:
    """Minus the first step of SGD at rate 1: the gradient; and the buffers after it."""
    population = populate([copy.deepcopy(module)], regularizer, [SGD | hyper])
    before = {name: leaf[0].clone() for name, leaf in population.params.items()}
    population.step(inputs[None], labels[None])
    buffers = {name: leaf[0] for name, leaf in population.buffers.items()}
    return {name: before[name] - population.params[name][0] for name in before} | buffers


def l2(module: nn.Module) -> Tensor:
    return sum(leaf.square().sum() for leaf in module.parameters() if leaf.dim() > 1)


def gradient_of(module: nn.Module, inputs: Tensor, labels: Tensor, strength: float = 0.0) -> list[Tensor]:
    loss = nn.functional.cross_entropy(module(inputs), labels) + strength / 2 * l2(module)
    return list(torch.autograd.grad(loss, list(module.parameters())))


def sam_by_hand(module: nn.Module, inputs: Tensor, labels: Tensor, strength: float = 0.0) -> list[Tensor]:
    """SAM's gradient; the module's statistics see both passes."""
    gradient = gradient_of(module, inputs, labels, strength)
    norm = torch.stack([leaf.norm() for leaf in gradient]).norm()
    with torch.no_grad():
        for parameter, leaf in zip(module.parameters(), gradient, strict=True):
            parameter += RHO * leaf / (norm + 1e-12)
    return gradient_of(module, inputs, labels, strength)


def assert_moves(actual: dict, module: nn.Module, expected: list[Tensor]) -> None:
    for (name, _), leaf in zip(module.named_parameters(), expected, strict=True):
        torch.testing.assert_close(actual[name], leaf, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["none", "sam", "gnvr", "gvr"])
@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_clipped(name: str, clip: float) -> None:
    module = MLP((FEATURES, 5, CLASSES))().double()
    inputs, labels = minibatch(2, views=REGULARIZERS[name].views)
    hyper = middle(REGULARIZERS[name])
    plain = moves(module, REGULARIZERS[name], inputs, labels, **hyper)
    norm = torch.stack([leaf.norm() for leaf in plain.values()]).norm().item()
    factor = min(1.0, clip / (norm + 1e-6))
    actual = moves(module, clipped(name), inputs, labels, **hyper, clip=clip)
    for leaf, value in plain.items():
        torch.testing.assert_close(actual[leaf], factor * value, rtol=1e-9, atol=1e-12)


def test_l2_in_the_loss_bends_sams_perturbation() -> None:
    module = MLP((FEATURES, 5, CLASSES))().double()
    inputs, labels = minibatch(2)
    actual = moves(module, l2_in_loss("none"), inputs, labels, l2=0.3)
    assert_moves(actual, module, gradient_of(module, inputs[0], labels, 0.3))
    actual = moves(module, l2_in_loss("sam"), inputs, labels, l2=0.3, rho=RHO)
    assert_moves(actual, module, sam_by_hand(copy.deepcopy(module), inputs[0], labels, 0.3))


def test_l2_is_no_part_of_the_reported_loss() -> None:
    module = MLP((FEATURES, 5, CLASSES))().double()
    inputs, labels = batches([2])
    population = populate([copy.deepcopy(module)], l2_in_loss("sam"), [SGD | {"l2": 10.0, "rho": RHO}])
    loss = population.step(inputs, labels)["train_loss"]
    torch.testing.assert_close(loss[0], nn.functional.cross_entropy(module(inputs[0, 0]), labels[0]))


@pytest.mark.parametrize("name", ["sam", "vasso"])  # VaSSO's first step is SAM's
def test_statistics_of_every_pass(name: str) -> None:
    module = normed()
    inputs, labels = minibatch(2, samples=16)
    hyper = middle(REGULARIZERS[name]) | {"rho": RHO}
    actual = moves(module, statistics_of_every_pass(name), inputs, labels, **hyper)
    once = moves(module, REGULARIZERS[name], inputs, labels, **hyper)
    twice = copy.deepcopy(module).train()
    expected = sam_by_hand(twice, inputs[0], labels)
    for (leaf, _), value in zip(module.named_parameters(), expected, strict=True):
        torch.testing.assert_close(actual[leaf], value, rtol=1e-5, atol=1e-7)  # VaSSO's ε is another
    for buffer, value in twice.named_buffers():
        torch.testing.assert_close(actual[buffer], value, rtol=1e-5, atol=1e-7)
        assert not torch.equal(once[buffer], value)


def test_variants_combine_and_are_named_in_the_definition() -> None:
    both = clipped(l2_in_loss("sam"))
    study = Study(
        data=Mnist1d(samples=100),
        model=MLP((40, 8, 10)),
        baseline="SAM",
        configurations=(
            Configuration("SAM", "sgd", "sam"),
            Configuration("Google's", "sgd", both, space={"weight_decay": 0}),
        ),
    )
    names = [entry["regularizer"] for entry in describe(study)["configurations"]]
    assert names[0] == "sam" and all(word in names[1] for word in ("clipped", "sam", "L2"))
    assert {"rho", "l2", "clip"} <= full_space(study.configurations[1]).keys()


def test_unknown_regularizers_and_equal_names_are_refused() -> None:
    for make, words in ((lambda: clipped("sma"), "sam"), (lambda: clipped("clip_global"), "clip")):
        with pytest.raises(UsageError, match=words):
            make()
