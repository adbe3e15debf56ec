"""What a script cannot have is refused, and what it draws otherwise than hpo is said."""

import ast
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.special as F
from plain_scripts import Runner
from script_curves import SEED, both_curves, script_of, setting_of, study_of
from torch import Tensor, nn

import hpo
from hpo.data import load_source
from hpo.errors import UsageError
from hpo.snippet.objective import Objective
from hpo.snippet.script import write_script
from hpo.study.study import Configuration
from hpo.worker.recipes import Recipes


def refusal(configuration: Configuration, **fields: Any) -> str:
    with pytest.raises(UsageError) as caught:
        script_of(configuration, **fields)
    message = str(caught.value)
    assert "\n" not in message and ";" in message
    return message


def drawn(objective: hpo.Objective, params: Any, state: Any, _: Any) -> Any:
    return objective.grad({name: leaf + objective.random.normal(leaf) for name, leaf in params.items()}), state, {}


def with_hpos_function(outputs: Tensor, labels: Tensor) -> Tensor:
    return load_source(hpo.Mnist1d()).inputs[:1].mean() + outputs[:, 0] + labels


def with_another_f(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.expit(outputs[:, 0]) * labels


def test_what_a_script_cannot_have_is_named() -> None:
    plain = Configuration("A")
    assert "objective.random" in refusal(Configuration("A", regularizer=hpo.Regularizer("mine", drawn)))
    assert "closure" in refusal(Configuration("A", optimizer=hpo.from_torch(torch.optim.LBFGS, learning_rate=0.1)))
    assert "lambda" in refusal(plain, model=lambda: nn.Linear(40, 10))
    assert "load_source" in refusal(plain, loss=with_hpos_function)
    assert "--data" in refusal(plain, data=hpo.Arrays(torch.ones(100, 40), torch.arange(100) % 10))
    assert "Regularizer" in refusal(Configuration("A", regularizer=hpo.clipped("sam")))
    assert "accumulate" in refusal(Configuration("A", regularizer="vasso"), accumulate=2)
    assert "torch.special" in refusal(plain, loss=with_another_f)


class RobustTable(hpo.Table):
    """A table that is scaled by medians."""

    def scaling(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        shift = inputs.median(0).values
        return shift, 1 / (inputs - shift).abs().median(0).values


class ClippedTable(hpo.Table):
    """A table without outliers."""

    def rescale(self, inputs: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        return super().rescale(inputs, shift, factor).clamp(-3, 3)


@pytest.mark.parametrize("table", [RobustTable, ClippedTable])
def test_a_table_with_a_scaling_of_its_own_is_refused(table: type[hpo.Table], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(torch.randn(60, 3).numpy(), columns=["a", "b", "y"])
    file = str(tmp_path / "samples.pt")
    message = refusal(Configuration("A"), file=file, data=table(frame, target="y"), model=hpo.MLP((2, 1)))
    assert table.__name__ in message


def with_dropout(p: float = 0.4) -> nn.Module:
    return nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Dropout(p), nn.Linear(30, 10))


@pytest.mark.parametrize("regularizer", ["none", "sam"])
def test_dropout_masks_are_others(regularizer: str, runner: Runner, tmp_path: Path) -> None:
    configuration = Configuration("A", regularizer=regularizer)
    script, printed, own = both_curves(runner, tmp_path, configuration, model=with_dropout, epochs=6)
    assert "does not repeat" in (ast.get_docstring(ast.parse(script)) or "")
    assert printed["train_loss"] != pytest.approx(own["train_loss"], abs=1e-3)
    for name in ("train_loss", "validation_loss"):  # they differ by chance only
        assert printed[name] == pytest.approx(own[name], abs=0.15)
    assert printed["train_loss"][-1] < printed["train_loss"][0] - 0.02
    without, _ = script_of(configuration, model=functools.partial(with_dropout, 0.0))
    assert "does not repeat" not in without


def test_all_passes_of_a_step_have_the_same_dropout_masks() -> None:
    network = with_dropout().train()
    params = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def objective() -> Objective:
        return Objective(network, nn.CrossEntropyLoss(reduction="none"), torch.ones(1, 8, 40), torch.arange(8), 0, 1)

    first = objective()
    assert torch.equal(first.loss(params), first.loss(params))
    [gradient, other] = [first.grad(params), first.grad(params)]
    assert all(torch.equal(leaf, other[name]) for name, leaf in gradient.items())
    norms = first.sample_grad_norms(params)
    assert torch.equal(norms, first.sample_grad_norms(params))
    assert not torch.equal(first.loss(params), objective().loss(params))


class Noisy(torch.optim.SGD):
    """SGD with noise."""

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        super().step()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(torch.randn_like(parameter), alpha=1e-4)


def test_optimizers_that_draw() -> None:
    def docstring(source: Any) -> str:
        optimizer = hpo.from_torch(source, learning_rate=hpo.log_range(1e-3, 1e-1))
        return ast.get_docstring(ast.parse(script_of(Configuration("A", optimizer=optimizer))[0])) or ""

    assert "optimizer" in docstring(Noisy)
    assert "optimizer" not in docstring(torch.optim.SGD)


def test_any_name_can_be_in_the_first_lines() -> None:
    study = study_of(Configuration("A"))
    source = load_source(study.data)
    recipes = Recipes(study, lambda: source)
    words = r'A "quoted" \name\N """, of a study.'
    setting = setting_of(recipes, study.configurations[0])
    script = write_script(study, source, "A", setting, SEED, words)
    assert (ast.get_docstring(ast.parse(script)) or "").startswith(words)


def evaluate(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs[:, 0] * labels


def network(named: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([parameter for _, parameter in named], lr)


def seed() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Linear(40, 10)))


def rho_schedule(step: int, steps: int, _: int) -> float:
    return 1 - step / (2 * steps)


def test_names_of_the_script_are_taken() -> None:
    assert "'evaluate'" in refusal(Configuration("A"), loss=evaluate)
    assert "'seed'" in refusal(Configuration("A"), model=seed)
    assert "'network'" in refusal(Configuration("A", optimizer=hpo.from_torch(network, learning_rate=0.1)))
    schedules = {"learning_rate": rho_schedule, "rho": hpo.Linear(1, 0.5)}
    assert "'rho_schedule'" in refusal(Configuration("A", regularizer="sam", schedules=schedules))
