"""Top-5 accuracy: as `torch.topk` has it, and where it is reported."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import hpo.training.loop
from hpo import MLP
from hpo.analysis.metric import further_metrics, metric_of
from hpo.data import Mnist1d
from hpo.models.task_metrics import RATIOS
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.tasks import metric_words, untrained_value
from hpo.training.evaluation import evaluate_test
from hpo.training.loop import train
from hpo.training.population import Population
from hpo.training.recipe import Member, Recipe
from hpo.training.samples import Samples

pytestmark = pytest.mark.usefixtures("one_thread")


def top5(outputs: Tensor, labels: Tensor) -> list[bool]:
    (values,) = RATIOS["classification"](outputs, labels)["top5_accuracy"]
    return [bool(value) for value in values]


@pytest.mark.parametrize("classes", [6, 10, 100])
def test_the_label_is_among_the_five_largest_outputs(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(300, classes, generator=generator)
    labels = torch.randint(classes, (300,), generator=generator)
    best = outputs.topk(5, dim=1).indices.tolist()
    found = top5(outputs, labels)
    assert found == [label in five for label, five in zip(labels.tolist(), best, strict=True)]
    assert abs(sum(found) / 300 - 5 / classes) < 4 * (5 / classes * (1 - 5 / classes) / 300) ** 0.5


def test_outputs_that_are_not_numbers_are_wrong() -> None:
    outputs = torch.full((2, 7), math.nan)
    outputs[1, 2] = 1.0
    assert top5(outputs, torch.tensor([0, 2])) == [False, False]


@pytest.mark.parametrize(("classes", "reported"), [(5, False), (6, True), (2, False)])
def test_it_is_reported_of_more_than_five_classes(classes: int, reported: bool) -> None:
    ratios = RATIOS["classification"](torch.randn(4, classes), torch.zeros(4, dtype=torch.int64))
    assert ("top5_accuracy" in ratios) == reported
    assert "top5_accuracy" not in RATIOS["classification"](torch.randn(4, 1), torch.zeros(4, dtype=torch.int64))


def test_a_run_reports_it_of_every_part(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_CACHE", str(tmp_path))
    dataset = Mnist1d(samples=100)
    trained: list[Population] = []

    def evaluate(population: Population, samples: Samples) -> Any:
        trained.append(population)
        return evaluate_test(population, samples)

    monkeypatch.setattr(hpo.training.loop, "evaluate_test", evaluate)
    adam = {"learning_rate": 0.01, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    parts = dataset, dataset.load(), MLP((40, 8, 10)), REGULARIZERS["none"], OPTIMIZERS["adamw"]
    [result] = train(Recipe(*parts, epochs=2, batch_size=16), [Member(0, adam)], test=True)
    module = MLP((40, 8, 10))()
    module.load_state_dict({name: leaf[0] for name, leaf in trained[0].params.items()})
    outputs = module(dataset.load().test_inputs)
    best = outputs.topk(5, dim=1).indices.tolist()
    right = [label in five for label, five in zip(dataset.load().test_labels.tolist(), best, strict=True)]
    assert result.final["test_top5_accuracy"] == pytest.approx(sum(right) / len(right))
    assert len(result.curves["validation_top5_accuracy"]) == 2 and "train_top5_accuracy" in result.final


def test_it_is_a_share_with_a_name_and_the_value_of_guessing() -> None:
    assert metric_words("test_top5_accuracy") == "test top-5 accuracy"
    assert (untrained_value("top5_accuracy", 100), untrained_value("top5_accuracy", 3)) == (0.05, 1.0)
    assert untrained_value("corrupted_accuracy", 10) == 0.1
    definition = {"score": "validation_accuracy", "direction": "maximize"}
    assert further_metrics(definition, ()) == []
    [metric] = further_metrics(definition, {"test_top5_accuracy", "test_accuracy"})
    assert metric == ("test_top5_accuracy", "maximize", True)
    scored = metric_of({"score": "validation_top5_accuracy", "direction": "maximize"})
    assert scored == metric
