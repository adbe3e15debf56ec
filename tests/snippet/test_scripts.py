"""Scripts of settings of built-in parts, run in another process without hpo, give hpo's own curves in float64."""

from typing import Any

import pytest
import torch
from script_curves import RATES, Check
from torch import Tensor

import hpo
from hpo.optim.regularizers import REGULARIZERS
from hpo.study.study import Configuration

AUGMENTED = hpo.Mnist1d(samples=500, augmented=True)


@pytest.mark.parametrize("optimizer", RATES)
def test_optimizers(optimizer: str, check: Check) -> None:
    assert "class Objective" not in check(Configuration("A", optimizer=optimizer))


def test_momentum_of_one_group_only(check: Check) -> None:
    groups = {"*bias": {"momentum": hpo.fixed(0.9)}}
    check(Configuration("A", optimizer="nesterov", space={"momentum": 0.0}, groups=groups))


@pytest.mark.parametrize(
    "regularizer", [name for name in REGULARIZERS if not name.startswith("gvr") and name != "none"]
)
def test_regularizers(regularizer: str, check: Check) -> None:
    assert "class Objective" in check(Configuration("A", regularizer=regularizer))


@pytest.mark.parametrize("regularizer", ["gvr", "gvr_independent"])
def test_views_of_augmented_samples(regularizer: str, check: Check) -> None:
    check(Configuration("A", regularizer=regularizer, optimizer="sgd"), data=AUGMENTED)


@pytest.mark.parametrize("regularizer", ["none", "sam", "clip_sample"])
def test_convolutions(regularizer: str, check: Check) -> None:
    norm = "group" if regularizer == "clip_sample" else "batch"
    script = check(Configuration("A", regularizer=regularizer), model=hpo.ConvNet1d(channels=4, norm=norm, groups=2))
    assert "nn.Conv1d(" in script and "nn.Sequential(" in script


def test_a_network_of_hpo_with_blocks(check: Check) -> None:
    configuration = Configuration("A", optimizer="nesterov", regularizer="sam")
    data, model = hpo.Digits(augmented=True, label_noise=0.1), hpo.ResNet(18, in_channels=1, width=2)
    check(configuration, data=data, model=model, epochs=1, batch_size=256)


@pytest.mark.parametrize(
    "schedule",
    [
        hpo.Constant(warmup_epochs=1.5),
        hpo.Cosine(end=0.1, warmup_epochs=1, warmup_start=0.2),
        hpo.Cosine(by_epoch=True),
        hpo.Linear(1, 0.2, warmup_epochs=1, by_epoch=True),
        hpo.MultiStep((0.3, 0.7), factor=0.3),
        hpo.MultiStep((1, 2)),
    ],
    ids=repr,
)
def test_schedules(schedule: Any, check: Check) -> None:
    check(Configuration("A", optimizer="sgd", groups={"*bias": {"learning_rate": hpo.fixed(0.3)}}), schedule=schedule)


@pytest.mark.parametrize("optimizer", [
    hpo.from_torch(torch.optim.NAdam, learning_rate=hpo.log_range(1e-3, 1e-2), decoupled_weight_decay=True),
    hpo.from_torch(torch.optim.RMSprop, learning_rate=hpo.log_range(1e-3, 1e-2), momentum=0.5),
], ids=["NAdam", "RMSprop"])  # fmt: skip
def test_optimizers_of_pytorch(optimizer: Any, check: Check) -> None:
    check(Configuration("A", optimizer=optimizer, regularizer="gnvr", groups={"linear2.*": {"weight_decay": 2.0}}))


@pytest.mark.parametrize("name", ["Lion", "ScheduleFreeAdamW"])
def test_optimizers_of_libraries(name: str, check: Check) -> None:
    library = pytest.importorskip("pytorch_optimizer")
    optimizer = hpo.from_torch(getattr(library, name), learning_rate=hpo.log_range(1e-4, 1e-2))
    assert f"from pytorch_optimizer import {name}" in check(Configuration("A", optimizer=optimizer))


@pytest.mark.parametrize("average", [hpo.EMA(decay=0.9), hpo.SWA(start=0.4), hpo.SWA(start=1)], ids=repr)
def test_averages_of_the_weights(average: Any, check: Check) -> None:
    script = check(Configuration("A", average=average), model=hpo.ConvNet1d(channels=4), batch_size=64)
    assert "return average" in script


@pytest.mark.parametrize("regularizer", ["none", "sam"])
def test_gradient_accumulation(regularizer: str, check: Check) -> None:
    check(Configuration("A", regularizer=regularizer), model=hpo.ConvNet1d(channels=4), accumulate=4)


@pytest.mark.parametrize("noise", ["symmetric", "symmetric_exclusive"])
def test_label_noise_and_other_splits(noise: str, check: Check) -> None:
    data = hpo.Mnist1d(samples=500, label_noise=0.25, noise=noise, validation=0.31, split="last", iid_noise_scale=0.1)
    weights = (1.0, 2.0) * 5
    loss = hpo.CrossEntropy(label_smoothing=0.1, class_weights=weights)
    check(Configuration("A", optimizer="adam"), data=data, last_batch="keep", loss=loss)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("task", ["regression", "several numbers", "multilabel", "logit", "weighted logit"])
def test_samples_in_a_file(task: str, check: Check) -> None:
    inputs, outputs = numbers(300, 5), {"several numbers": 2, "multilabel": 3}.get(task, 1)
    labels: Any = inputs[:, :outputs] ** 2
    labels = labels[:, 0] if task == "regression" else labels if task == "several numbers" else (labels > 0.3).long()
    labels = labels[:, 0] if "logit" in task else labels
    data = hpo.Arrays(inputs, labels, label_noise=0.1 if task == "logit" else 0.0)
    loss = hpo.CrossEntropy(label_smoothing=0.2, class_weights=(1, 5)) if task == "weighted logit" else None
    check(Configuration("A", regularizer="sam"), "samples.pt", data=data, model=hpo.MLP((5, 8, outputs)), loss=loss)


def test_a_table_is_standardised(check: Check) -> None:
    pandas = pytest.importorskip("pandas")
    values = numbers(200, 2) * 50 + 7
    frame = pandas.DataFrame({"a": values[:, 0], "b": values[:, 1], "kind": ["x", "y"] * 100, "y": values.sum(1)})
    frame.loc[::17, "a"] = float("nan")
    data = hpo.Table(frame, target="y", missing="mean")
    check(Configuration("A"), "table.pt", data=data, model=hpo.MLP((data.features, 8, 1)))
