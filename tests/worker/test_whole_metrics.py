"""Metrics of a whole set: functions of all outputs and labels, and torchmetrics objects as they are."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor, nn

from hpo import Arrays, Configuration, Study, notebooks, whole
from hpo.data import split
from hpo.errors import UsageError
from hpo.models.losses import SquaredError
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.study.definition import describe
from hpo.study.fingerprint import fingerprint
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe, Result
from tests.data.test_data_loading import SGD, Clouds, plain

pytestmark = pytest.mark.usefixtures("one_thread")


def macro_f1(outputs: Tensor, labels: Tensor) -> float:
    return float(f1_score(labels, outputs.argmax(1), average="macro"))


def trained(members: int = 2, rate: float = 0.1, **metrics: Any) -> list[Result]:
    parts = REGULARIZERS["none"], OPTIMIZERS["sgd"]
    recipe = Recipe(Clouds(), plain(), lambda: nn.Linear(4, 3), *parts, epochs=2, batch_size=8, metrics=metrics)
    return train(recipe, [Member(seed, SGD | {"learning_rate": rate}) for seed in range(members)], test=True)


def study_of(**changes: Any) -> Study:
    chosen: dict[str, Any] = {
        "data": Clouds(), "model": lambda: nn.Linear(4, 3), "epochs": 2, "trials": 2, "seeds": 3, "tuning_runs": 1,
        "name": "own", "batch_size": 8, "metrics": {"macro_f1": whole(macro_f1)}, "score": "validation_macro_f1",
        "direction": "maximize", "baseline": "A",
        "configurations": (Configuration("A"), Configuration("B", optimizer="sgd")),
    }  # fmt: skip
    return Study(**chosen | changes)


@pytest.mark.parametrize("members", [1, 3])
def test_it_gets_all_samples_of_a_part_of_one_model(members: int) -> None:
    calls: list[tuple[Tensor, Tensor]] = []

    def sums(outputs: Tensor, labels: Tensor) -> float:
        calls.append((outputs.clone(), labels.clone()))
        return float(outputs.double().sum() + labels.sum())

    source = plain()
    results = trained(members, sums=whole(sums))
    for seed, result in enumerate(results):
        outputs, labels = calls[-members + seed]
        assert torch.equal(labels, source.test_labels) and outputs.shape == (20, 3)
        assert result.final["test_sums"] == pytest.approx(float(outputs.double().sum() + labels.sum()))
        assert len(result.curves["validation_sums"]) == 2
    order = split(source, Clouds(), 0).validation
    assert any(torch.equal(labels, source.labels[order]) for _, labels in calls)


def test_it_is_no_mean_over_samples() -> None:
    [result] = trained(1, macro_f1=whole(macro_f1), error=whole(lambda o, y: np.float32((o.argmax(1) != y).sum())))
    assert result.final["test_error"] == pytest.approx(20 * (1 - result.final["test_accuracy"]))
    assert 0 < result.final["test_macro_f1"] <= 1


def test_a_diverged_model_has_none_and_the_function_never_sees_nan() -> None:
    def strict(outputs: Tensor, labels: Tensor) -> float:
        assert outputs.isfinite().all()
        return roc_auc_score(labels, outputs.softmax(1), multi_class="ovr")

    assert trained(2, 1e38, auc=whole(strict))[0].diverged_epoch == 1
    assert all(math.isfinite(result.final["test_auc"]) for result in trained(2, auc=whole(strict)))


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (whole(lambda outputs, _: outputs), "metric 'own' of a whole set gives a tensor of float32.*return one number"),
        (whole(lambda *_: None), "gives None; return one number"),
        (whole(lambda outputs: float(outputs.sum())), "does not take these arguments"),
        (whole(3), r"metrics\['own'\] is not callable"),  # type: ignore[arg-type]
        (lambda outputs, _: outputs.mean(), r"or use hpo.whole\(function\)"),
    ],
)
def test_what_is_no_number_is_refused(metric: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        trained(1, own=metric)


def test_a_function_with_memory_is_refused() -> None:
    counted: list[int] = []

    def count(*_: Tensor) -> float:
        counted.append(1)
        return float(len(counted))

    with pytest.raises(UsageError, match="metric 'own'"):
        trained(1, own=whole(count))


def test_outputs_have_the_shape_of_the_labels_where_there_is_one_for_each() -> None:
    """[N, 1] − [N] would be [N, N], and its mean a wrong number."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 4)).astype("float32")
    data = Arrays(x, x.sum(1) + generator.normal(size=60))
    kept: list[tuple[Tensor, Tensor]] = []

    def absolute(outputs: Tensor, labels: Tensor) -> Tensor:
        kept.append((outputs.clone(), labels.clone()))
        return (outputs - labels).abs().mean()

    recipe = Recipe(
        data, data.load(), lambda: nn.Linear(4, 1), REGULARIZERS["none"], OPTIMIZERS["sgd"], epochs=1, batch_size=8,
        sample_loss=SquaredError(), metrics={"mae": whole(absolute)},
    )  # fmt: skip
    [result] = train(recipe, [Member(0, SGD)], test=True)
    pairs = zip(*(values.tolist() for values in kept[-1]), strict=True)
    assert result.final["test_mae"] == pytest.approx(np.mean([abs(output - label) for output, label in pairs]))


@pytest.mark.parametrize("members", [1, 2])
def test_what_a_metric_or_a_loss_changes_in_place_stays_its_own(members: int) -> None:
    def spoil(outputs: Tensor, labels: Tensor) -> None:
        outputs.zero_()
        labels.zero_()

    def whole_one(outputs: Tensor, labels: Tensor) -> float:
        spoil(outputs, labels)
        return 0.0

    def sample_one(outputs: Tensor, labels: Tensor) -> Tensor:
        spoil(outputs, labels)
        return labels.float()

    honest = trained(members, z_right=lambda o, y: (o.argmax(1) == y).float(), z_f1=whole(macro_f1))
    spoiled = trained(
        members, a=whole(whole_one), b=sample_one, z_right=lambda o, y: (o.argmax(1) == y).float(), z_f1=whole(macro_f1)
    )
    for one, other in zip(honest, spoiled, strict=True):
        assert one.final.items() <= other.final.items()
        assert other.final["test_z_right"] == other.final["test_accuracy"]


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        (whole(f1_score), "ValueError"),
        (whole(lambda *_: {}["missing"]), "KeyError"),
        (lambda outputs, _: outputs[:, 7], "IndexError"),
        (lambda outputs, labels: roc_auc_score(outputs, labels), "Error"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_refused_by_name_before_training(metric: Any, kind: str) -> None:
    with pytest.raises(UsageError) as caught:
        trained(1, fine=whole(macro_f1), own=metric)
    text = str(caught.value)
    assert text.startswith("metric 'own'") and kind in text and "\n" not in text
    assert re.search(r"outputs \(\d+, 3\), labels \(\d+,\)", text)


def test_a_metric_that_fails_only_after_training_is_named_and_counts_as_a_failed_attempt() -> None:
    def late(outputs: Tensor, _: Tensor) -> float:
        if outputs.abs().max() > 50:
            raise ZeroDivisionError("no positives")
        return 1.0

    with pytest.raises(RuntimeError, match=r"metric 'own' raises ZeroDivisionError: no positives \(test_whole_metrics"):
        trained(1, rate=200.0, own=whole(late))


def test_a_loss_that_cannot_be_computed_is_refused_before_training() -> None:
    parts = REGULARIZERS["none"], OPTIMIZERS["sgd"]
    recipe = Recipe(
        Clouds(), plain(), lambda: nn.Linear(4, 3), *parts, epochs=2, batch_size=8,
        sample_loss=lambda outputs, labels: (outputs - labels).square().mean(1),
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"^the loss raises RuntimeError: .*outputs \(8, 3\), labels \(8,\)"):
        train(recipe, [Member(0, SGD)])


def test_a_study_tunes_for_it_and_reports_it(tmp_path: Path) -> None:
    study = study_of()
    readme = notebooks.run(study, f"sqlite:///{tmp_path}/hpo.db", "cpu", reports=tmp_path / "reports").report
    results = json.loads((readme.parent / "results.json").read_text())
    assert results["metric"] == {"name": "test_macro_f1", "direction": "maximize", "share": False}
    for entry in results["configurations"]:
        assert entry["reruns"]["metric_values"] == entry["reruns"]["custom_metrics"]["macro_f1"]
        assert all(0 < value <= 1 for value in entry["reruns"]["metric_values"].values())
    assert "verdicts compare test macro F1 (higher is better)" in readme.read_text()


def test_the_function_is_part_of_the_definition_and_of_the_code() -> None:
    assert describe(study_of())["metrics"]["macro_f1"] == {"whole": True, "kind": "macro_f1"}
    own = study_of(metrics={"macro_f1": whole(lambda *_: 0.5)})
    assert describe(own) != describe(study_of())
    assert any("test_whole_metrics" in name for name in fingerprint(study_of()))


def test_torchmetrics_objects_are_taken_as_they_are() -> None:
    torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    metric = torchmetrics.classification.MulticlassF1Score(num_classes=3, average="macro")
    metric.update(torch.eye(3), torch.tensor([0, 1, 1]))  # what it holds already has no influence, and stays
    for result in trained(2, tm=metric, own=whole(macro_f1), wrapped=whole(metric)):
        assert result.final["test_tm"] == pytest.approx(result.final["test_own"], abs=1e-6)
        assert result.final["test_wrapped"] == result.final["test_tm"]
        assert result.curves["validation_tm"] == pytest.approx(result.curves["validation_own"], abs=1e-6)
    assert float(metric.compute()) != 0
    described = describe(study_of(metrics={"macro_f1": metric}))["metrics"]["macro_f1"]
    assert (described["kind"], described["average"], described["num_classes"]) == ("MulticlassF1Score", "macro", 3)
    other = torchmetrics.classification.MulticlassF1Score(num_classes=3, average="micro")
    assert describe(study_of(metrics={"macro_f1": other}))["metrics"]["macro_f1"] != described
    with pytest.raises(UsageError, match="is the class MulticlassF1Score; give an instance"):
        study_of(metrics={"macro_f1": torchmetrics.classification.MulticlassF1Score})


def test_a_metric_of_a_library_is_one_entry_of_the_code_with_its_version() -> None:
    torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")

    def entries(number: int) -> dict[str, str]:
        metric = torchmetrics.classification.MulticlassAUROC(num_classes=3, thresholds=number)
        metrics = {"macro_f1": whole(macro_f1), "auroc": metric, "f1": whole(f1_score)}
        return {name: text for name, text in fingerprint(study_of(metrics=metrics)).items() if name[:7] == "metric "}

    library = f"metric auroc (torchmetrics {torchmetrics.__version__})"
    assert {library, f"metric f1 (sklearn {sklearn.__version__})"} == {
        name for name in entries(4) if not name.startswith("metric macro_f1")
    }
    assert entries(4) == entries(4) and entries(4)[library] != entries(5)[library]


def test_torchmetrics_of_numbers_and_of_tokens() -> None:
    torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 4)).astype("float32")
    tokens = (np.abs(x[:, :3]) * 2).astype(int) % 4
    parts = REGULARIZERS["none"], OPTIMIZERS["sgd"]
    for labels, network, name, metric in (
        (x.sum(1), lambda: nn.Linear(4, 1), "r2", torchmetrics.R2Score()),
        (tokens, lambda: nn.Sequential(nn.Linear(4, 12), nn.Unflatten(1, (3, 4))), "perplexity",
         torchmetrics.text.Perplexity(ignore_index=-100)),
    ):  # fmt: skip
        data = Arrays(x, labels, task="tokens" if name == "perplexity" else None)
        from hpo.models.losses import LOSSES

        recipe = Recipe(
            data, data.load(), network, *parts, epochs=1, batch_size=8, sample_loss=LOSSES[data.task],
            metrics={"tm": metric},
        )  # fmt: skip
        [result] = train(recipe, [Member(0, SGD)], test=True)
        assert result.final["test_tm"] == pytest.approx(result.final[f"test_{name}"], rel=1e-4)
