"""Diagnostics of reruns, compared with dense Hessians and loops over single samples in plain PyTorch."""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from hpo import Calibration, Configuration, Hessian, Sharpness, Study, UsageError
from hpo.data import Dataset, Source, split
from hpo.models.losses import CrossEntropy
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.random import stream
from hpo.study.definition import describe
from hpo.training import curvature
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe, Result

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = 3
SGD = {"learning_rate": 0.1, "weight_decay": 1e-3, "momentum": 0.9}
EXACT = Hessian(samples=20, tolerance=1e-12, iterations=3000, probes=40)
ALL = (Sharpness(rho=0.3, samples=20), EXACT, Calibration(bins=5))


@dataclass(frozen=True)
class Blobs(Dataset):
    """Three overlapping clouds."""

    classes: int = CLASSES

    def load(self) -> Source:
        labels = torch.arange(75) % self.classes
        inputs = torch.randn(75, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        inputs[:, 0] += 2 * labels
        return Source(inputs[:60], labels[:60], inputs[60:], labels[60:], self.classes)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, CLASSES)).double()


DATASET = Blobs(label_noise=0.2, validation=0.25)


def run(seeds: tuple[int, ...], dataset: Dataset = DATASET, model: Any = network, **changes: Any) -> list[Result]:
    chosen = {"diagnostics": ALL, "sample_loss": CrossEntropy(label_smoothing=0.2)} | changes
    parts = (REGULARIZERS["none"], OPTIMIZERS["sgd"], 2, 8)
    recipe = Recipe(dataset, dataset.load(), model, *parts, **chosen)
    return train(recipe, [Member(seed, SGD) for seed in seeds], test=True, keep_weights=True)


def reference(seed: int, result: Result, count: int = 20) -> tuple[Any, dict[str, Tensor]]:
    """The mean loss, without smoothing, of the first samples of epoch 0's order, and the weights that it depends on."""
    source = DATASET.load()
    parts = split(source, DATASET, seed)
    chosen = parts.training[torch.randperm(45, generator=stream(seed, "data", "order", 0))][:count]
    module = network().eval()
    assert result.weights is not None
    params = {name: result.weights[name] for name, _ in module.named_parameters()}
    buffers = {name: result.weights[name] for name, _ in module.named_buffers()}

    def loss(at: dict[str, Tensor]) -> Tensor:
        outputs = functional_call(module, {**at, **buffers}, (source.inputs[chosen],))
        return nn.functional.cross_entropy(outputs, parts.labels[chosen])

    return loss, params


def dense_hessian(loss: Any, params: dict[str, Tensor]) -> Tensor:
    rows = jacrev(jacrev(loss))(params)
    return torch.cat([
        torch.cat([rows[one][other].reshape(params[one].numel(), -1) for other in params], 1) for one in params
    ])  # fmt: skip


@pytest.fixture(scope="module")
def population() -> list[Result]:
    torch.set_num_threads(1)
    return run((3, 4, 5))


def test_sharpness_is_the_increase_after_one_normalised_gradient_step(population: list[Result]) -> None:
    for seed, result in zip((3, 4, 5), population, strict=True):
        loss, params = reference(seed, result)
        moved = {name: value.clone().requires_grad_() for name, value in params.items()}
        gradients = torch.autograd.grad(loss(moved), list(moved.values()))
        length = torch.cat([each.flatten() for each in gradients]).norm()
        ascended = {
            name: value + 0.3 * each / length for (name, value), each in zip(params.items(), gradients, strict=True)
        }
        assert result.final["sharpness"] == pytest.approx(float(loss(ascended) - loss(params)), rel=1e-9)


def test_the_top_eigenvalue_and_the_trace_are_those_of_the_dense_hessian(population: list[Result]) -> None:
    for seed, result in zip((3, 4, 5), population, strict=True):
        matrix = dense_hessian(*reference(seed, result))
        values = torch.linalg.eigvalsh(matrix)
        assert result.final["hessian_top"] == pytest.approx(float(values[-1]), rel=1e-5)
        # Hutchinson's variance for vectors of ±1: 2 (‖H‖² − Σ H_ii²).
        spread = (2 * (matrix.square().sum() - matrix.diag().square().sum()) / EXACT.probes).sqrt()
        assert abs(result.final["hessian_trace"] - float(matrix.trace())) < 4 * float(spread)
        assert float(spread) < 0.5 * float(matrix.trace())


def test_the_trace_is_the_mean_over_vectors_from_the_seed(population: list[Result]) -> None:
    matrix = dense_hessian(*reference(4, population[1]))
    _, params = reference(4, population[1])
    total = 0.0
    for probe in range(EXACT.probes):
        generator = stream(4, "diagnostics", "trace", probe)
        signs = torch.cat([torch.randn(leaf.shape, generator=generator).flatten().sign() for leaf in params.values()])
        total += float(signs.double() @ matrix @ signs.double()) / EXACT.probes
    assert population[1].final["hessian_trace"] == pytest.approx(total, rel=1e-9)


def test_where_the_most_negative_eigenvalue_is_largest_in_magnitude_the_top_one_is_reported() -> None:
    matrices = torch.stack(
        [torch.diag(torch.tensor([-9.0, 2.0, 0.5])), torch.diag(torch.tensor([-1.0, 4.0, 3.0]))]
    ).double()

    class Loss:
        params: ClassVar = {"": torch.zeros(2, 3, dtype=torch.float64)}
        network = type("Network", (), {"dtype": torch.float64})

        def hessian_product(self, vector: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"": (matrices @ vector[""][..., None])[..., 0]}

    settings = Hessian(tolerance=1e-13, iterations=2000)
    values = curvature.top_eigenvalue(Loss(), (0, 1), settings)  # type: ignore[arg-type]
    assert values.tolist() == pytest.approx([2, 4], rel=1e-6)


def test_calibration_error_is_that_of_a_loop_over_bins(population: list[Result]) -> None:
    source = DATASET.load()
    for result in population:
        module = network().eval()
        module.load_state_dict(result.weights)  # type: ignore[arg-type]
        with torch.no_grad():
            probabilities = module(source.test_inputs).softmax(1)
        expected = 0.0
        for place in range(5):
            chosen = [row for row in range(15) if place / 5 < float(probabilities[row].max()) <= (place + 1) / 5]
            if chosen:
                confidence = sum(float(probabilities[row].max()) for row in chosen) / len(chosen)
                right = sum(int(probabilities[row].argmax() == source.test_labels[row]) for row in chosen) / len(chosen)
                expected += len(chosen) / 15 * abs(confidence - right)
        assert result.final["calibration_error"] == pytest.approx(expected, rel=1e-9)


def test_a_member_has_the_same_diagnostics_alone(population: list[Result]) -> None:
    [alone] = run((4,))
    for name in ("sharpness", "hessian_top", "hessian_trace", "calibration_error"):
        assert alone.final[name] == pytest.approx(population[1].final[name], rel=1e-8)


def test_chunks_of_samples_give_the_same_numbers(population: list[Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(curvature.DIFFERENTIATED_NUMBERS, "cpu", 1)  # chunks of a quarter batch: 2 of 20 samples
    for result, other in zip(run((3, 4, 5)), population, strict=True):
        assert result.final == pytest.approx(other.final, rel=1e-8)


def test_one_logit_is_calibrated_by_the_probability_of_the_predicted_class() -> None:
    dataset = Blobs(classes=2, validation=0.25)

    def model() -> nn.Module:
        return nn.Linear(4, 1).double()

    [result] = run((0,), dataset, model, diagnostics=(Calibration(bins=1),))
    source, module = dataset.load(), model()
    module.load_state_dict(result.weights)  # type: ignore[arg-type]
    with torch.no_grad():
        probability = module(source.test_inputs)[:, 0].sigmoid()
    confidence = torch.maximum(probability, 1 - probability).mean()
    right = ((probability > 0.5) == source.test_labels.bool()).double().mean()
    assert result.final["calibration_error"] == pytest.approx(float((confidence - right).abs()), rel=1e-9)


class OnceDifferentiable(nn.Module):
    """Its outputs pass through an operation that PyTorch differentiates once."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, CLASSES).double()

    def forward(self, inputs: Tensor) -> Tensor:
        return -torch.cdist(self.linear(inputs), torch.eye(CLASSES).double(), p=1.0)


def test_what_cannot_be_computed_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        [result] = run((0,), model=OnceDifferentiable)
    assert "hessian_top" not in result.final and "sharpness" in result.final
    assert "test_accuracy" in result.final
    assert any("hessian" in record.message for record in caplog.records)


def study(**changes: Any) -> Study:
    configurations = (Configuration("A", optimizer="sgd"), Configuration("B", optimizer="adamw"))
    return Study(data=DATASET, model=network, configurations=configurations, baseline="A", **changes)


def test_the_definition_has_the_settings_of_the_diagnostics_only_where_there_are_some() -> None:
    assert "diagnostics" not in describe(study())
    [first, second] = describe(study(diagnostics=("sharpness", Hessian(probes=5))))["diagnostics"]
    assert first == {"kind": "Sharpness", "rho": 0.05, "samples": 1000}
    assert second["kind"] == "Hessian" and second["probes"] == 5


@pytest.mark.parametrize("wrong", [("sharpnes",), "sharpness", ("hessian", Hessian()), (3,)])
def test_wrong_diagnostics_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="diagnostics"):
        study(diagnostics=wrong)
