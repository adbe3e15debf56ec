"""Products by other libraries are those of float64 up to rounding, and training by them gives the same gradients."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpo import processor
from hpo.bench.training_steps import Setting, make_population
from hpo.optim.regularizers import REGULARIZERS
from hpo.training import products
from hpo.training.population import Population
from hpo.training.tracing import CHECKED_CALLS

aten = torch.ops.aten
pytestmark = pytest.mark.usefixtures("one_thread")


def choose(monkeypatch: pytest.MonkeyPatch, library: str | None) -> None:
    """As on a processor where this library is faster."""
    monkeypatch.setattr(products, "is_amd", lambda: library is not None)
    monkeypatch.setattr(products, "onednn_is_fastest", lambda: library == "onednn")
    monkeypatch.setattr(products, "openblas_threads", lambda: 1)


def operand(rows: int, columns: int, transposed: bool) -> Tensor:
    shape = (3, columns, rows) if transposed else (3, rows, columns)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(rows))
    return values.mT if transposed else values


@pytest.mark.parametrize("library", ["openblas", "onednn"])
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("sizes", [(64, 256, 80), (64, 200, 10), (1, 300, 90)])
def test_products_are_those_of_float64(
    library: str, transposed: tuple[bool, bool], sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(monkeypatch, library)
    rows, terms, columns = sizes
    first, second = operand(rows, terms, transposed[0]), operand(terms, columns, transposed[1])
    function = products.faster_product(aten.bmm.default, (first, second)) or torch.bmm
    expected = first.double() @ second.double()
    torch.testing.assert_close(function(first, second).double(), expected, rtol=0, atol=1e-6 * terms)


def test_sums_with_a_bias_are_those_of_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, "openblas")
    bias, first, second = torch.randn(80), operand(64, 256, False)[0], operand(256, 80, True)[0]
    function = products.faster_product(aten.addmm.default, (bias, first, second))
    assert function is not None
    torch.testing.assert_close(function(bias, first, second), torch.addmm(bias, first, second), rtol=0, atol=1e-4)


def test_small_products_and_unsuitable_tensors_stay_with_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, "openblas")
    large, other = torch.randn(3, 64, 64), torch.randn(3, 64, 64)
    assert products.faster_product(aten.bmm.default, (large, other))
    unsuitable = [
        (large[:, :4], other[..., :4]),
        (large.int(), other.int()),
        (large, torch.randn(3, 64, 64, 2)[..., 0]),  # no contiguous lines
        (large.bfloat16(), other.bfloat16()),
        (large.requires_grad_(), other),
    ]
    assert not any(products.faster_product(aten.bmm.default, pair) for pair in unsuitable)
    assert not products.faster_product(aten.mul.Tensor, (other, other))


def trained(name: str, model: str, count: Callable[[Population], None]) -> dict[str, Tensor]:
    """The gradients of the first step that only replays a trace, at the initial weights."""
    population, batch = make_population(name, 3, Setting(model, 64, torch.device("cpu")))
    population.hyperparameters["learning_rate"].zero_()
    grads: dict[str, Tensor] = {}
    update = population.updates.update

    def spy(gradient: dict[str, Tensor], *rest: object) -> dict[str, Tensor]:
        grads.update(gradient)
        return update(gradient, *rest)  # type: ignore[arg-type]

    population.updates.update = spy  # type: ignore[method-assign, assignment]
    for _ in range(CHECKED_CALLS + 1):
        population.step(*batch)
    count(population)
    return grads


@pytest.mark.parametrize("library", ["openblas", "onednn"])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_gradients_of_every_regularizer_are_the_same(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def count_kernels(population: Population) -> None:
        (traced,) = population._traced.values()
        assert traced._trace is not None
        kernels.append(sum(operation.kernel is not None for operation in traced._trace.operations))

    kernels: list[int] = []
    choose(monkeypatch, None)
    expected = trained(name, "mlp", count_kernels)
    choose(monkeypatch, library)
    grads = trained(name, "mlp", count_kernels)
    assert kernels[0] == 0 and kernels[1] > 0
    for leaf, gradient in grads.items():
        size = float(expected[leaf].abs().max())
        torch.testing.assert_close(gradient, expected[leaf], rtol=0, atol=2e-6 * size)


@pytest.mark.parametrize("library", ["openblas", "onednn"])
def test_evaluation_by_other_products_gives_the_same_metrics(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, None)
    population, (inputs, labels) = make_population("none", 3, Setting("mlp", 64, torch.device("cpu")))
    samples, indices = inputs[:, 0].flatten(0, 1), torch.arange(64).expand(3, -1)
    arguments = (samples, indices, torch.ones(indices.shape), labels)
    [expected] = population.evaluate(*arguments)
    choose(monkeypatch, library)
    used: list[object] = []
    faster = products.faster_product

    def spy(*call: object) -> object:
        used.append(faster(*call))  # type: ignore[arg-type]
        return used[-1]

    monkeypatch.setattr(products, "faster_product", spy)
    [metrics] = population.evaluate(*arguments)
    assert any(used) and metrics["accuracy"].tolist() == expected["accuracy"].tolist()
    torch.testing.assert_close(metrics["loss"], expected["loss"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("library", ["openblas", "onednn"])
def test_infinite_numbers_pass_without_a_warning(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, library)
    population, (inputs, labels) = make_population("none", 3, Setting("mlp", 64, torch.device("cpu")))
    samples, indices = inputs[:, 0].flatten(0, 1), torch.arange(192).reshape(3, 64)
    samples[64:128] = float("inf")
    [metrics] = population.evaluate(samples, indices, torch.ones(indices.shape), labels)
    assert metrics["loss"].isfinite().tolist() == [True, False, True]
    for step in range(CHECKED_CALLS + 2):
        inputs[1] = float("inf") if step > CHECKED_CALLS else inputs[1]
        losses = population.step(inputs, labels)["train_loss"]
    assert losses.isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("vendor", ["GenuineIntel", "AuthenticAMD"])
def test_only_amd_processors_multiply_otherwise(vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nvendor_id : {vendor}\n")
    monkeypatch.setattr(processor, "CPU_INFORMATION", tmp_path / "cpuinfo")
    monkeypatch.setattr(products, "is_amd", processor.is_amd.__wrapped__)
    monkeypatch.setattr(products, "openblas_threads", lambda: 1)
    first, second = torch.randn(3, 64, 64), torch.randn(3, 64, 64)
    assert bool(products.faster_product(aten.bmm.default, (first, second))) == (vendor == "AuthenticAMD")


def test_openblas_on_several_threads_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, "openblas")
    monkeypatch.setattr(products, "openblas_threads", lambda: 2)
    assert not products.faster_product(aten.bmm.default, (torch.randn(3, 64, 64), torch.randn(3, 64, 64)))
