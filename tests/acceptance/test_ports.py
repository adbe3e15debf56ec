"""Public experiments as studies: short, by public names only, equal to plain PyTorch, and run from tuning to report."""

import ast
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import CommandLine
from fork_server import ForkServer
from networks import CLASSES, FEATURES, minibatch
from populations import populate
from torch import Tensor, nn

import hpo
from hpo.gradients.draws import Draws, Moment
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.models import MLP
from hpo.models.losses import cross_entropy
from hpo.space import split_space
from hpo.study.components import optimizer_of, regularizer_of
from hpo.study.definition import describe
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

FOLDER = Path(__file__).with_name("ports")
PORTS = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
MAX_LINES = 35
SAMPLES = 8
SMALLER = """

from dataclasses import replace

STUDY = replace(STUDY, data=replace(STUDY.data, samples=300), model=MLP((40, 8, 10)), trials=2, seeds=2, tuning_runs=1)
"""


@pytest.mark.parametrize("name", PORTS)
def test_a_port_is_short_and_uses_public_names_only(name: str) -> None:
    text = PORTS[name].read_text()
    assert len(text.splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert node.module in ("hpo", "torch")
            assert all(hasattr(hpo, alias.name) for alias in node.names if node.module == "hpo")
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")


@pytest.mark.parametrize("name", PORTS)
def test_a_port_runs_from_tuning_to_report(name: str, fork_server: ForkServer, tmp_path: Path) -> None:
    command_line = CommandLine(fork_server, tmp_path / "work", HPO_CACHE=str(tmp_path / "cache"))
    command_line.write_study(name, PORTS[name].read_text() + SMALLER)
    epochs = "21" if name == "progressive_batch" else "2"
    command_line.run("run", name, "--device", "cpu", "--workers", "1", "--epochs", epochs)
    study = hpo.load(str(PORTS[name]))
    report = (command_line.folder / "reports" / name / "README.md").read_text()
    assert all(configuration.name in report for configuration in study.configurations)


def regularizer(name: str, configuration: int = -1) -> Any:
    return regularizer_of(hpo.load(str(PORTS[name])).configurations[configuration])


class Plain:
    """A network in float64, a minibatch in two views, and gradients by autograd.

    Attributes:
        params: the parameters. moment: of the step, with which the port draws.
    """

    def __init__(self) -> None:
        self.module = MLP((FEATURES, 5, CLASSES))().double()
        self.params = dict(self.module.named_parameters())
        self.inputs, self.labels = minibatch(seed=3, samples=SAMPLES, views=2)
        self.moment = Moment(*(torch.tensor(number) for number in (7, 4, 2)))

    def loss(self, samples: slice = slice(None), view: int = 0) -> Tensor:
        return nn.functional.cross_entropy(self.module(self.inputs[view, samples]), self.labels[samples])

    def gradient(self, value: Tensor, names: list[str] | None = None) -> Tree:
        names = names or list(self.params)
        leaves = torch.autograd.grad(value, [self.params[name] for name in names], create_graph=True)
        return dict(zip(names, leaves, strict=True))

    def port(self, name: str, configuration: int = -1, state: Any = None, **hyper: float) -> tuple[Tree, Any, Tree]:
        """What the port's regularizer returns."""
        chosen = regularizer(name, configuration)
        params = {key: leaf.detach() for key, leaf in self.params.items()}
        network = Network(copy.deepcopy(self.module), self.inputs[0])
        parts = network, cross_entropy, self.inputs, self.labels, {}, self.moment, chosen.clean_view
        tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in hyper.items()}
        return chosen.grads(Objective(*parts), params, chosen.init(params) if state is None else state, tensors)


def assert_gradient(actual: Tree, expected: Tree) -> None:
    for name, leaf in expected.items():
        torch.testing.assert_close(actual[name], leaf.detach(), rtol=1e-9, atol=1e-11)


@pytest.fixture
def plain() -> Plain:
    torch.manual_seed(0)
    return Plain()


def flat(tree: Tree) -> Tensor:
    return torch.cat([leaf.flatten() for leaf in tree.values()])


def test_kurtosis(plain: Plain) -> None:
    entries = flat(plain.gradient(plain.loss()))
    centred = [entry - sum(entries) / len(entries) for entry in entries]
    fourth, second = (sum(value**power for value in centred) / len(entries) for power in (4, 2))
    gradient, _, scalars = plain.port("kurtosis", strength=0.3)
    assert scalars["penalty"].item() == pytest.approx(0.3 * (fourth / second**2).item(), rel=1e-9)
    assert_gradient(gradient, plain.gradient(plain.loss() + 0.3 * fourth / second**2))


def test_agreement(plain: Plain) -> None:
    halves = [plain.gradient(plain.loss(samples)) for samples in (slice(4), slice(4, 8))]
    expected = {}
    for name in plain.params:
        same = halves[0][name].sign() == halves[1][name].sign()
        expected[name] = (halves[0][name] + halves[1][name]) / 2 * torch.where(same, 1.0, 0.25)
    assert_gradient(plain.port("agreement", strength=0.75)[0], expected)


def test_standardisation(plain: Plain) -> None:
    for configuration, divides in ((1, False), (2, True)):
        expected = plain.gradient(plain.loss())
        for name, leaf in expected.items():
            if name.endswith("weight"):
                rows = torch.stack([row - row.mean() for row in leaf])
                expected[name] = rows / (rows.std() + 1e-8) if divides else rows
        assert_gradient(plain.port("standardisation", configuration)[0], expected)


def test_centripetal_adam(plain: Plain) -> None:
    gradient = plain.gradient(plain.loss())
    last = {name: torch.full_like(leaf, 0.3) for name, leaf in plain.params.items()}
    actual, state, _ = plain.port("centripetal_adam", state={"last": last}, centripetal=0.5)
    assert_gradient(actual, {name: 1.5 * gradient[name] - 0.5 * last[name] for name in gradient})
    assert_gradient(state["last"], gradient)


def test_clean_alignment(plain: Plain) -> None:
    names = ["linear2.weight", "linear2.bias"]
    augmented, clean = (flat(plain.gradient(plain.loss(view=view), names)) for view in (0, 1))
    penalty = 2 * (1 - augmented @ clean / (augmented.norm() * clean.norm()))
    assert_gradient(plain.port("clean_alignment", strength=2.0)[0], plain.gradient(plain.loss() + penalty))


def test_hessian_norm(plain: Plain) -> None:
    """With the dense Hessian, row by row, and the signs that the port draws."""
    params = {name: leaf.detach() for name, leaf in plain.params.items()}
    signs = Draws(plain.moment.key).signs(params)
    rows = [plain.gradient(entry) for entry in flat(plain.gradient(plain.loss()))]
    products = torch.stack([flat(row) @ flat(signs) for row in rows])
    expected = plain.gradient(plain.loss() + 0.1 * products.square().sum())
    gradient, _, scalars = plain.port("hessian_norm", strength=0.1)
    assert scalars["penalty"].item() == pytest.approx(0.1 * products.square().sum().item(), rel=1e-9)
    assert_gradient(gradient, expected)


def run_steps(name: str, hyper: dict[str, float], steps: int, views: int) -> list[Tree]:
    """The parameters of a population of one after each step of a port's last configuration."""
    configuration = hpo.load(str(PORTS[name])).configurations[-1]
    torch.manual_seed(0)
    module = MLP((FEATURES, 5, CLASSES))().double()
    population = populate([module], regularizer_of(configuration), [hyper], optimizer_of(configuration))
    after = []
    for number in range(steps):
        inputs, labels = minibatch(seed=number, samples=SAMPLES, views=views)
        when = Moment(*(torch.tensor([value]) for value in (1, number, 1)))
        population.step(inputs[None], labels[None], moment=when)
        after.append({key: leaf[0].clone() for key, leaf in population.params.items()})
    return after


def plain_steps(update: Callable[[nn.Module, int, Tensor, Tensor], None], steps: int, views: int) -> list[Tree]:
    torch.manual_seed(0)
    module = MLP((FEATURES, 5, CLASSES))().double()
    after = []
    for number in range(steps):
        update(module, number, *minibatch(seed=number, samples=SAMPLES, views=views))
        after.append({key: leaf.detach().clone() for key, leaf in module.named_parameters()})
    return after


def test_lookaround() -> None:
    """Three networks, each trained by torch.optim.SGD on its own view, and averaged after steps 0, 5 and 10."""
    networks: list[nn.Module] = []

    def update(module: nn.Module, number: int, inputs: Tensor, labels: Tensor) -> None:
        if not networks:
            networks.extend(copy.deepcopy(module) for _ in range(3))
        for network, samples in zip(networks, inputs, strict=True):
            network.zero_grad()
            nn.functional.cross_entropy(network(samples), labels).backward()
            torch.optim.SGD(network.parameters(), lr=0.2).step()
        if number % 5 == 0:
            states = [network.state_dict() for network in networks]
            mean = {name: sum(state[name] for state in states) / 3 for name in states[0]}
            for network in (module, *networks):
                network.load_state_dict(mean)

    hyper = {"inner_rate": 0.2, "learning_rate": 1.0, "weight_decay": 0.0, "momentum": 0.0}
    for actual, expected in zip(run_steps("lookaround", hyper, 11, 3), plain_steps(update, 11, 3), strict=True):
        assert_gradient(actual, expected)


def test_snr_decay() -> None:
    """torch.optim.Adam, after decay by one minus the signal's share of the moments."""
    optimizers: list[torch.optim.Adam] = []

    def update(module: nn.Module, number: int, inputs: Tensor, labels: Tensor) -> None:
        if not optimizers:
            optimizers.append(torch.optim.Adam(module.parameters(), lr=0.05))
        module.zero_grad()
        nn.functional.cross_entropy(module(inputs[0]), labels).backward()
        before = [parameter.detach().clone() for parameter in module.parameters()]
        optimizers[0].step()
        with torch.no_grad():
            for parameter, old in zip(module.parameters(), before, strict=True):
                moments = optimizers[0].state[parameter]
                mean = moments["exp_avg"] / (1 - 0.9 ** (number + 1))
                square = moments["exp_avg_sq"] / (1 - 0.999 ** (number + 1))
                parameter -= 0.05 * 0.1 / (1 + mean**2 / (square + 1e-12)) * old

    hyper = {"learning_rate": 0.05, "weight_decay": 0.1}
    for actual, expected in zip(run_steps("snr_decay", hyper, 4, 1), plain_steps(update, 4, 1), strict=True):
        for key, leaf in expected.items():
            torch.testing.assert_close(actual[key], leaf, rtol=1e-8, atol=1e-8)


def test_low_rank(plain: Plain) -> None:
    """Sums of the largest singular components, one at a time."""
    expected = plain.gradient(plain.loss())
    for name, leaf in expected.items():
        if name.endswith("weight"):
            left, values, right = torch.linalg.svd(leaf, full_matrices=False)
            expected[name] = sum(values[at] * torch.outer(left[:, at], right[at]) for at in range(2))
    assert_gradient(plain.port("low_rank", rank=2)[0], expected)


def test_progressive_batch() -> None:
    """Each configuration has its own batch sizes; the tests of `Stages` compare their steps with a plain loop."""
    study = hpo.load(str(PORTS["progressive_batch"]))
    growing = study.configurations[-1]
    assert growing.space["batch_size"] == hpo.Stages({0: 32, 10: 64, 20: 128})
    definition = describe(study)
    [stored] = [entry["space"]["batch_size"] for entry in definition["configurations"] if entry["name"] == growing.name]
    assert split_space({"batch_size": json.loads(json.dumps(stored))}).fixed == growing.space
