"""Studies whose outcome is known beforehand, from definition to report."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from hpo import MLP, Configuration, Mnist1d, Objective, Regularizer, Study
from hpo.gradients import rule_check
from hpo.gradients.layer_rules import RULES
from hpo.notebooks import run
from hpo.tree import Tree, scale

pytestmark = pytest.mark.usefixtures("one_thread")

# Nothing is tuned: configurations differ only in their regularizers.
FIXED = {"learning_rate": 3e-3, "weight_decay": 1e-3}


def planted(factor: float) -> Regularizer:
    """The plain gradient times a factor: 1 does nothing, −1 harms."""

    def grads(objective: Objective, params: Tree, state: Tree, _: Tree) -> tuple[Tree, Tree, Tree]:
        return scale(factor, objective.grad(params)), state, {}

    return Regularizer(f"times {factor:g}", grads)


def overflowing() -> Regularizer:
    """A gradient that is infinite."""

    def grads(objective: Objective, params: Tree, state: Tree, _: Tree) -> tuple[Tree, Tree, Tree]:
        return {name: leaf / (leaf - leaf) for name, leaf in objective.grad(params).items()}, state, {}

    return Regularizer("overflowing", grads)


PLANTED = (
    Configuration("Nothing", regularizer=planted(1.0), space=FIXED, prediction="better"),
    Configuration("Harm", regularizer=planted(-1.0), space=FIXED),
    Configuration("Overflow", regularizer=overflowing(), space=FIXED),
)


class Lending(nn.Module):
    """A network that uses its first layer's weight a second time, which the layer's rule does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.lender, self.last = nn.Linear(40, 32), nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.lender(inputs).relu() + F.linear(inputs.flip(1), self.lender.weight).relu())


def results(folder: Path, *configurations: Configuration, **options: Any) -> dict[str, Any]:
    """results.json of a study of AdamW and other configurations, and its README as "text"."""
    folder.mkdir(exist_ok=True)
    usual: dict[str, Any] = {
        "data": Mnist1d(samples=1000), "model": MLP((40, 32, 10)), "epochs": 6, "trials": 2, "seeds": 5,
        "tuning_runs": 1,
    }  # fmt: skip
    study = Study(
        baseline="AdamW",
        configurations=(Configuration("AdamW", space=FIXED), *configurations),
        name="planted",
        **usual | options,
    )
    # Measuring the best population size would take longer than training.
    readme = run(study, f"sqlite:///{folder}/hpo.db", device="cpu", population=5, reports=folder / "reports").report
    found = json.loads((readme.parent / "results.json").read_text(encoding="utf-8"))
    return found | {"text": readme.read_text(encoding="utf-8")}


def verdict_line(found: dict[str, Any], name: str) -> str:
    return next(line for line in found["verdicts"] if line.startswith(f"{name} against AdamW: "))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache of the data for all tests of this file."""
    monkeypatch.setenv("HPO_CACHE", str(tmp_path_factory.getbasetemp() / "planted-cache"))


def test_no_change_is_identical_harm_is_worse_and_divergence_counts(tmp_path: Path) -> None:
    found = results(tmp_path, *PLANTED)
    rivals = {rival["name"]: rival for rival in found["rivals"]}
    assert rivals["Nothing"]["verdict"]["word"] == "identical"
    assert rivals["Nothing"]["outcome"] != "held"
    assert rivals["Harm"]["verdict"]["word"] == "worse"
    assert rivals["Overflow"]["verdict"]["word"] == "worse"
    assert rivals["Overflow"]["verdict"]["diverged"] == 5
    overflow = next(entry for entry in found["configurations"] if entry["name"] == "Overflow")
    assert set(overflow["reruns"]["test_metrics"]["test_accuracy"].values()) == {0.1}, "that of an untrained network"
    nothing, harm, lost = (verdict_line(found, name) for name in ("Nothing", "Harm", "Overflow"))
    assert "identical" in nothing and "Δ = 0.00 points" in nothing
    assert "worse" in harm and "Δ = −" in harm and "diverged" not in harm
    assert "worse" in lost and "Δ = −" in lost and "5 diverged" in lost
    assert "seeds 1000, 1001, 1002, 1003, 1004" in found["text"]


def test_divergence_leaves_no_verdict_on_an_unbounded_metric(tmp_path: Path) -> None:
    found = results(tmp_path, *PLANTED, score="validation_loss", direction="minimize")
    words = {rival["name"]: rival["verdict"]["word"] for rival in found["rivals"]}
    assert words == {"Nothing": "identical", "Harm": "worse", "Overflow": "no verdict"}
    assert "no verdict: 5 diverged" in verdict_line(found, "Overflow")
    assert "Δ = 0" in verdict_line(found, "Nothing") and "Δ = +" in verdict_line(found, "Harm")
    # A comparison without a test still belongs to the family.
    assert {rival["verdict"]["comparison"]["family"] for rival in found["rivals"]} == {3}


def gnvr_reruns(folder: Path, **options: Any) -> dict[str, Any]:
    gnvr = Configuration("GNVR", regularizer="gnvr", space={**FIXED, "lambda": 0.1})
    entries = results(folder, gnvr, **{"trials": 1, "seeds": 3, "epochs": 3} | options)["configurations"]
    return next(entry["reruns"] for entry in entries if entry["name"] == "GNVR")


def test_a_network_on_which_a_layer_rule_is_wrong_falls_back_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    small: dict[str, Any] = {"model": Lending, "data": Mnist1d(samples=300)}
    found = gnvr_reruns(tmp_path / "checked", **small)
    assert "the rule of layer 'lender' differs from its per-sample gradients" in caplog.text
    # With the wrong rule, the numbers would differ.
    with monkeypatch.context() as patch:
        patch.setattr(rule_check, "_rule_agrees", lambda *_: True)
        believed = gnvr_reruns(tmp_path / "believed", **small)
    assert believed["train_loss"]["mean"] != pytest.approx(found["train_loss"]["mean"], rel=1e-4)
    # Without any rule, per-sample gradients are computed one by one.
    monkeypatch.delitem(RULES, nn.Linear)
    slow = gnvr_reruns(tmp_path / "slow", **small)
    assert found["test_metrics"] == slow["test_metrics"]
    assert found["train_loss"] == slow["train_loss"]


def test_a_wrong_rule_in_the_table_gives_the_numbers_of_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = RULES[nn.Linear]
    expected = gnvr_reruns(tmp_path / "right")
    assert "differs" not in caplog.text
    wrong = right._replace(square_norms=lambda *args: 1.03 * right.square_norms(*args))
    monkeypatch.setitem(RULES, nn.Linear, wrong)
    found = gnvr_reruns(tmp_path / "wrong")
    assert "the rule of layer 'linear1' differs from its per-sample gradients" in caplog.text
    for seed, accuracy in expected["test_metrics"]["test_accuracy"].items():
        assert found["test_metrics"]["test_accuracy"][seed] == pytest.approx(accuracy, abs=0.015)
    assert found["train_loss"]["mean"] == pytest.approx(expected["train_loss"]["mean"], rel=1e-3)
