"""A study whose parts are all custom, from the command line through workers to the report."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from fork_server import ForkServer

IDEAS = '''
"""The user's package, next to the studies: what a study imports from there works as well."""

import torch


def halved(step, steps, steps_per_epoch):
    return 1.0 if step < steps // 2 else 0.5


def squares(outputs, labels):
    wanted = (labels.unsqueeze(-1) == torch.arange(3)).to(outputs.dtype)
    return (outputs - wanted).square().sum(-1)


def rank(outputs, labels):
    """Where the label stands among the classes, 0 being first."""
    own = outputs.gather(-1, labels.unsqueeze(-1))
    return (outputs > own).sum(-1)
'''

STUDY = '''
"""Nothing built in but AdamW."""

from dataclasses import dataclass

import torch
from ideas import halved, rank, squares
from torch import nn

from hpo import Configuration, Dataset, Regularizer, Source, Study, log_range, per_model


@dataclass(frozen=True)
class Clouds(Dataset):
    samples: int = 200

    def load(self):
        labels = torch.arange(self.samples) % 3
        inputs = torch.randn(self.samples, 4, generator=torch.Generator().manual_seed(0))
        inputs[:, 0] += 3 * labels
        return Source(inputs[50:], labels[50:], inputs[:50], labels[:50], 3)

    def augment(self, inputs, keys):
        return inputs * (1 + 0.01 * (keys % 3)).to(inputs.dtype)[:, None]


class Squared(nn.Module):
    """Layers that have no rule: per-sample gradients are computed one by one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3) / 2)

    def forward(self, inputs):
        return inputs @ self.weight + (inputs @ self.weight).square() / 10


def grads(objective, params, state, hyper):
    norms = objective.sample_grad_norms(params)
    gradient = objective.weighted_grad(params, 1 / (1 + hyper["softness"] * norms))
    return gradient, {"seen": state["seen"] + 1}, {"seen": state["seen"], "norm": norms.mean()}


def init(params):
    return {"seen": torch.zeros(())}


def start(params):
    return {"last": {name: torch.zeros_like(leaf) for name, leaf in params.items()}}


def update(grads, state, params, hyper):
    moved = {n: leaf - hyper["learning_rate"] * (grads[n] + 0.1 * state["last"][n]) for n, leaf in params.items()}
    return moved, {"last": grads}


MINE = per_model("mine", start, update, {"learning_rate": log_range(1e-3, 1e-1)})
SOFT = Regularizer("soft", grads, {"softness": log_range(0.01, 1, off="low")}, init=init, views=2)

STUDY = Study(
    data=Clouds(label_noise=0.1),
    model=Squared,
    batch_size=20,
    epochs=4,
    trials=3,
    seeds=3,
    tuning_runs=1,
    schedule=halved,
    loss=squares,
    metrics={"rank": rank},
    score="validation_rank",
    direction="minimize",
    title="Mine",
    hypothesis="It works.",
    baseline="AdamW",
    configurations=(
        Configuration("AdamW"),
        Configuration("Mine", optimizer=MINE, regularizer=SOFT, prediction="better"),
    ),
)
'''


def test_every_part_may_be_custom(fork_server: ForkServer, tmp_path: Path) -> None:
    hpo = CommandLine(fork_server, tmp_path / "work", HPO_CACHE=str(tmp_path / "cache"))
    hpo.write_study("own", STUDY)
    (hpo.folder / "ideas.py").write_text(IDEAS)
    assert "Mine against AdamW:" in hpo.run("run", "own", "--device", "cpu", "--workers", "1")
    reports = hpo.folder / "reports" / "own"
    report = (reports / "README.md").read_text()
    for name in (
        "Clouds",
        "Squared",
        "halved",
        "squares",
        "validation rank",
        "verdicts compare test rank (lower is better)",
    ):
        assert name in report, name
    results: dict[str, Any] = json.loads((reports / "results.json").read_text())
    accuracies = [entry["reruns"]["test_metrics"]["test_accuracy"] for entry in results["configurations"]]
    assert all(len(own) == 3 and 0 <= min(own.values()) <= 1 for own in accuracies)

    for entry in results["configurations"]:
        ranks, best = entry["reruns"]["custom_metrics"]["rank"], entry["tuning"]["best"]
        assert len(ranks) == 3 and all(0 <= value <= 2 for value in ranks.values()) and 0 <= best[0]["score"] <= 2
        assert entry["reruns"]["metric_values"] == ranks, "the verdict is about what was tuned for"
    assert results["metric"] == {"name": "test_rank", "direction": "minimize", "share": False}
    [rival] = results["rivals"]
    assert rival["verdict"]["comparison"]["mean"] == rival["custom_metrics"]["rank"]["mean"]
    assert rival["custom_metrics"]["rank"]["n"] == 3

    header, *rows = (reports / "curves.csv").read_text().splitlines()
    assert "aux/seen" in header and "aux/norm" in header and "validation_rank" in header and rows
    trials = [row.split(",") for row in (reports / "trials.csv").read_text().splitlines()]
    value, metric = trials[0].index("value"), trials[0].index("result/validation_rank")
    assert len(trials) == 7 and all(row[value] == row[metric] != "" for row in trials[1:])

    tried = json.loads(hpo.run("try", "own", "-c", "Mine", "--json", "--device", "cpu"))
    assert all(0 <= value <= 2 for value in tried["curves"]["validation_rank"])
    # 120 training samples are 6 steps an epoch; the state counts them.
    assert tried["curves"]["aux/seen"] == pytest.approx([2.5, 8.5, 14.5, 20.5])
