"""Planted truths: studies whose outcome is known beforehand, run from definition to report."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from hpo import MLP, Configuration, Mnist1d, Objective, Regularizer, Study
from hpo.taps import RULES
from hpo.tree import Tree, scale
from hpo.workflow import run

pytestmark = pytest.mark.usefixtures("one_thread")

# Nothing is tuned: every configuration is the same but for its regularizer.
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


def results(folder: Path, *configurations: Configuration) -> dict[str, Any]:
    study = Study(
        data=Mnist1d(samples=1000),
        model=MLP((40, 32, 10)),
        epochs=6,
        trials=2,
        seeds=5,
        baseline="AdamW",
        configurations=(Configuration("AdamW", space=FIXED), *configurations),
        name="planted",
    )
    readme = run(study, f"sqlite:///{folder}/hpo.db", device="cpu", reports=folder / "reports")
    return json.loads((readme.parent / "results.json").read_text(encoding="utf-8"))


def test_nothing_is_identical_harm_is_worse_and_divergence_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPO_CACHE", str(tmp_path / "cache"))
    found = results(
        tmp_path,
        Configuration("Nothing", regularizer=planted(1.0), space=FIXED, prediction="better"),
        Configuration("Harm", regularizer=planted(-1.0), space=FIXED),
        Configuration("Overflow", regularizer=overflowing(), space=FIXED),
    )
    rivals = {rival["name"]: rival for rival in found["rivals"]}
    assert rivals["Nothing"]["verdict"]["word"] == "identical"
    assert rivals["Nothing"]["outcome"] != "held"
    assert rivals["Harm"]["verdict"]["word"] == "worse"
    assert rivals["Overflow"]["verdict"]["word"] == "worse"
    assert rivals["Overflow"]["verdict"]["diverged"] == 5
    overflow = next(entry for entry in found["configurations"] if entry["name"] == "Overflow")
    assert set(overflow["reruns"]["test_accuracy"].values()) == {0.1}, "that of an untrained network"


def test_a_network_on_which_a_rule_is_wrong_gives_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HPO_CACHE", str(tmp_path / "cache"))
    gnvr = Configuration("GNVR", regularizer="gnvr", space={**FIXED, "lambda": 0.1})

    def reruns(name: str) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        entries = results(tmp_path / name, gnvr)["configurations"]
        return next(entry["reruns"] for entry in entries if entry["name"] == "GNVR")

    right = RULES[nn.Linear]
    expected = reruns("right")
    assert "differs" not in caplog.text
    wrong = right._replace(square_norms=lambda *args: 1.03 * right.square_norms(*args))
    monkeypatch.setitem(RULES, nn.Linear, wrong)
    found = reruns("wrong")
    assert "the rule of layer 'linear1' differs from its per-sample gradients" in caplog.text
    for seed, accuracy in expected["test_accuracy"].items():
        assert found["test_accuracy"][seed] == pytest.approx(accuracy, abs=0.015)
    assert found["train_loss"]["mean"] == pytest.approx(expected["train_loss"]["mean"], rel=1e-3)
