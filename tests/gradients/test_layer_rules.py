"""Every layer rule against a loop over single samples, its second derivatives, and both under vmap."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from hpo.gradients.layer_rules import RULES, LayerRecorder, outer_products

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLES, MODELS = 4, 3


class Case(NamedTuple):
    """A layer and the shape of one sample of its input."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


def convolutions(kind: type[nn.Module], sizes: tuple[int, ...], first: int) -> Iterator[tuple[str, Case]]:
    """Every third of kernel × stride × padding × dilation × groups × bias, which has every pair of their values."""
    settings = itertools.product((1, 3), (1, 2), (0, 1, 2, "same", "valid"), (1, 2), (1, 2), (True, False))
    for number, (kernel, stride, padding, dilation, groups, bias) in enumerate(settings):
        if (padding == "same" and stride > 1) or number % 3 != first:  # PyTorch has no strided "same"
            continue
        channels = [(2, 4), (8, 6), (4, 4)][number // 3 % 3]
        given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
        words = " ".join(f"{key}={value}" for key, value in given.items())

        def build(channels: tuple[int, int] = channels, kernel: int = kernel, given: dict[str, Any] = given) -> Any:
            return kind(*channels, kernel, **given)

        yield f"{kind.__name__} {channels} {kernel} {words}", Case(build, (channels[0], *sizes))


CASES = {
    **dict(convolutions(nn.Conv1d, (7,), first=0)),
    **dict(convolutions(nn.Conv2d, (6, 5), first=1)),
    "Conv2d of unequal axes": Case(
        lambda: nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)), (3, 7, 6)
    ),
    "Conv2d same of an even kernel": Case(lambda: nn.Conv2d(2, 3, (2, 4), padding="same"), (2, 4, 5)),
    "Conv1d down to one position": Case(lambda: nn.Conv1d(3, 5, 4), (3, 4)),
    "Conv1d as wide as the MNIST-1D net": Case(lambda: nn.Conv1d(25, 25, 3, 2, 1), (25, 10)),
    "Linear": Case(lambda: nn.Linear(5, 3), (5,)),
    "Linear without bias": Case(lambda: nn.Linear(5, 3, bias=False), (5,)),
    "Linear over positions": Case(lambda: nn.Linear(5, 3), (7, 5)),
    "Linear over few positions": Case(lambda: nn.Linear(8, 9), (2, 8)),
    "Linear over a plane": Case(lambda: nn.Linear(8, 9, bias=False), (2, 3, 8)),
    "GroupNorm": Case(lambda: nn.GroupNorm(3, 6), (6, 5)),
    "GroupNorm over a plane": Case(lambda: nn.GroupNorm(2, 4, eps=1e-2), (4, 3, 5)),
    "GroupNorm over features": Case(lambda: nn.GroupNorm(2, 6), (6,)),
    "LayerNorm": Case(lambda: nn.LayerNorm(6), (6,)),
    "LayerNorm over [T, C]": Case(lambda: nn.LayerNorm(6, eps=1e-2), (4, 6)),
    "LayerNorm of two axes": Case(lambda: nn.LayerNorm([4, 6]), (4, 6)),
    "LayerNorm of two axes over channels": Case(lambda: nn.LayerNorm([4, 5]), (3, 4, 5)),
    "LayerNorm without bias": Case(lambda: nn.LayerNorm(6, bias=False), (4, 6)),
}


class Problem:
    """A layer with MODELS sets of parameters, inputs and targets; loss_i = Σ target_i · tanh(output_i)."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.layer = case.build().double()
        self.params = {
            name: torch.randn(MODELS, *value.shape, dtype=torch.float64)
            for name, value in self.layer.named_parameters()
        }
        self.inputs = torch.randn(MODELS, SAMPLES, *case.shape, dtype=torch.float64)
        self.weights = torch.rand(MODELS, SAMPLES, dtype=torch.float64)
        self.shape = self.layer(self.inputs[0]).shape
        self.targets = torch.randn(MODELS, *self.shape, dtype=torch.float64)
        self.recorder = LayerRecorder(self.layer)

    def model(self, number: int) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
        layer_params = {name: value[number] for name, value in self.params.items()}
        return layer_params, self.inputs[number], self.targets[number], self.weights[number]

    def losses(self, params: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = functional_call(self.layer, params, (inputs,))
        return (targets * outputs.tanh()).flatten(1).sum(1)

    def answer(
        self, what: str, params: dict[str, Tensor], inputs: Tensor, targets: Tensor, weights: Tensor
    ) -> dict[str, Tensor]:
        """By the layer's rule."""

        def total(probe: Tensor) -> tuple[Tensor, list[Tensor]]:
            losses, seen = self.recorder.run(lambda: self.losses(params, inputs, targets), [probe])
            return losses.sum(), seen

        delta, [seen] = grad(total, has_aux=True)(torch.zeros_like(targets))
        rule = RULES[type(self.layer)]
        if what == "square_norms":
            return {"": rule.square_norms(self.layer, seen, delta)}
        if what == "weighted_grad":
            return rule.weighted_grad(self.layer, seen, delta, weights)
        return rule.sign_mean(self.layer, seen, delta)

    def slow(self, number: int) -> dict[str, dict[str, Tensor]]:
        """The same of one model, a sample at a time; and the gradient of Σ w_i ‖g_i‖² as "second"."""
        params, inputs, targets, weights = self.model(number)
        params = {name: value.clone().requires_grad_() for name, value in params.items()}
        at = {**params, "inputs": inputs.clone().requires_grad_()}
        samples = []
        for i in range(SAMPLES):
            loss = self.losses(params, at["inputs"][i : i + 1], targets[i : i + 1])
            samples.append(torch.autograd.grad(loss.sum(), list(params.values()), create_graph=True))
        norms = torch.stack([torch.stack([(leaf**2).sum() for leaf in sample]).sum() for sample in samples])
        second = torch.autograd.grad(
            (weights * norms).sum(), list(at.values()), allow_unused=True, materialize_grads=True
        )
        leaves = {name: torch.stack([sample[j] for sample in samples]) for j, name in enumerate(params)}
        return {
            "square_norms": {"": norms.detach()},
            "weighted_grad": {
                name: sum(w * g for w, g in zip(weights, leaf.detach(), strict=True)) / SAMPLES
                for name, leaf in leaves.items()
            },
            "sign_mean": {name: leaf.detach().sign().mean(0) for name, leaf in leaves.items()},
            "second": dict(zip(at, second, strict=True)),
        }

    def second(self, params: dict[str, Tensor], inputs: Tensor, targets: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Gradient of Σ w_i ‖g_i‖² with respect to parameters and inputs, by the rule."""

        def total(at: dict[str, Tensor]) -> Tensor:
            layer_params = {name: value for name, value in at.items() if name != "inputs"}
            return (weights * self.answer("square_norms", layer_params, at["inputs"], targets, weights)[""]).sum()

        return grad(total)({**params, "inputs": inputs})


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """To 1e-12 of a leaf's norm; a leaf that is zero up to rounding, of the largest leaf's."""
    assert actual.keys() == expected.keys()
    scale = max(leaf.norm().item() for leaf in expected.values())
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        assert (actual[name] - value).norm() <= 1e-12 * max(value.norm().item(), 1e-3 * scale), name


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", CASES)
def test_rules_equal_a_loop_over_samples(name: str) -> None:
    """For one model and under vmap over models: three answers and the second derivatives of the norms."""
    problem = Problem(CASES[name])
    stacked = (problem.params, problem.inputs, problem.targets, problem.weights)
    expected = [problem.slow(number) for number in range(MODELS)]
    for what in ("square_norms", "weighted_grad", "sign_mean"):
        assert_close(problem.answer(what, *problem.model(0)), expected[0][what])
        together = vmap(lambda *model, what=what: problem.answer(what, *model))(*stacked)
        for number in range(MODELS):
            assert_close({key: leaf[number] for key, leaf in together.items()}, expected[number][what])
    assert_close(problem.second(*problem.model(0)), expected[0]["second"])
    together = vmap(problem.second)(*stacked)
    for number in range(MODELS):
        assert_close({key: leaf[number] for key, leaf in together.items()}, expected[number]["second"])
    assert problem.recorder.obstacle is None


@pytest.mark.parametrize(("outputs", "features", "positions"), [(8, 9, 2), (8, 9, 4), (8, 9, 5), (1, 9, 1), (3, 2, 20)])
def test_both_formulas_of_a_norm(outputs: int, features: int, positions: int) -> None:
    """T × T products are chosen where they take fewer multiplications than the gradient: T (O + I) < O I."""
    torch.manual_seed(0)
    delta = torch.randn(5, 2, outputs, positions, dtype=torch.float64)
    inputs = torch.randn(5, 2, features, positions, dtype=torch.float64)
    multiplications = (positions**2 * (outputs + features), outputs * features * positions)
    assert outer_products.gram_is_smaller(outputs, features, positions) == (multiplications[0] < multiplications[1])
    expected = [
        sum((d @ a.T).square().sum() for d, a in zip(*pair, strict=True)) for pair in zip(delta, inputs, strict=True)
    ]
    torch.testing.assert_close(outer_products.square_norms(delta, inputs), torch.stack(expected), rtol=1e-12, atol=0)


def test_mean_signs_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(CASES["Conv1d as wide as the MNIST-1D net"])
    full = problem.answer("sign_mean", *problem.model(0))
    monkeypatch.setattr(outer_products, "ENTRIES_AT_ONCE", 3 * 25 * 75)  # 4 samples in parts of 3 and 1
    assert_close(problem.answer("sign_mean", *problem.model(0)), full)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular"), (4, 2, 5)),
        (nn.Conv2d(2, 2, 3), (2, 5, 5)),  # one sample without its axis, so that channels look like samples
        (nn.Linear(5, 2), (5,)),
        (nn.LayerNorm([4, 5]), (4, 5)),
    ],
    ids=str,
)
def test_an_input_that_a_rule_does_not_cover(layer: nn.Module, shape: tuple[int, ...]) -> None:
    recorder = LayerRecorder(nn.Sequential(layer))
    recorder.run(lambda: layer(torch.zeros(shape)), None)
    assert f"layer '0' with an input of shape {shape} is not covered by its rule" in (recorder.obstacle or "")


def test_layers_without_parameters_need_no_rule() -> None:
    network = nn.Sequential(
        nn.GroupNorm(2, 4, affine=False), nn.LayerNorm(4, elementwise_affine=False), nn.Linear(4, 2)
    )
    recorder = LayerRecorder(network)
    assert [name for name, _, _ in recorder.layers] == ["2"]
    assert recorder.obstacle is None


@pytest.mark.parametrize("name", [name for name in CASES if "groups" not in name])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_weighted_gradients_can_be_differentiated(name: str) -> None:
    """A penalty may use them: the gradient of ‖mean_i w_i g_i‖², under vmap, against plain autograd."""
    problem = Problem(CASES[name])

    def by_rule(params: dict[str, Tensor], *rest: Tensor) -> dict[str, Tensor]:
        def square(at: dict[str, Tensor]) -> Tensor:
            leaves = problem.answer("weighted_grad", at, *rest)
            return torch.stack([leaf.square().sum() for leaf in leaves.values()]).sum()

        return grad(square)(params)

    actual = vmap(by_rule)(problem.params, problem.inputs, problem.targets, problem.weights)
    for number in range(MODELS):
        params, inputs, targets, weights = problem.model(number)
        params = {key: value.clone().requires_grad_() for key, value in params.items()}
        loss = (weights * problem.losses(params, inputs, targets)).mean()
        leaves = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        square = torch.stack([(leaf**2).sum() for leaf in leaves]).sum()
        second = dict(zip(params, torch.autograd.grad(square, list(params.values())), strict=True))
        assert_close({key: leaf[number] for key, leaf in actual.items()}, second)
