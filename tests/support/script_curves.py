"""The curves of a setting, trained by hpo and by its script in float64."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_scripts import Runner, read_curves
from torch import Tensor, nn

import hpo
from hpo.data import check_source, load_source
from hpo.search_space import Value
from hpo.snippet.script import write_script
from hpo.study.study import Configuration, Study
from hpo.training.loop import train
from hpo.training.recipe import Member
from hpo.worker.recipes import Recipes

SEED, EPOCHS = 1003, 3
NOISY = hpo.Mnist1d(samples=500, label_noise=0.3)
RATES = {"sgd": 0.1, "nesterov": 0.1, "adam": 0.003, "adamw": 0.003}
# Values that do something within a few epochs.
VALUES: dict[str, Value] = {
    "weight_decay": 0.02, "rho": 0.1, "rho_prime": 0.05, "theta": 0.6, "alpha": 0.4, "beta": 0.5, "gamma": 0.3,
    "lambda": 0.5, "clip": 0.7, "k": 0.5, "strength": 0.1,
}  # fmt: skip
Check = Callable[..., str]


def study_of(configuration: Configuration, **fields: Any) -> Study:
    chosen: dict[str, Any] = {
        "data": NOISY,
        "model": hpo.MLP((40, 12, 10)),
        "epochs": EPOCHS,
        "batch_size": 32,
    } | fields
    return Study(configurations=[configuration, Configuration("other")], baseline="other", **chosen)


def setting_of(recipes: Recipes, configuration: Configuration) -> dict[str, Value]:
    tuned = recipes.space(configuration.name).tuned
    known = VALUES | {"learning_rate": RATES.get(str(configuration.optimizer), 0.003)}
    return {name: known.get(name, bounds.middle()) for name, bounds in tuned.items()}


def script_of(configuration: Configuration, file: str | None = None, **fields: Any) -> tuple[str, Recipes]:
    """The script of a setting, and the study's recipes; the samples are written to the file."""
    study = study_of(configuration, **fields)
    source = load_source(study.data)
    recipes = Recipes(study, lambda: source)
    if file:
        torch.save(list(source[:4]), file)
    setting = setting_of(recipes, configuration)
    return write_script(study, source, configuration.name, setting, SEED, "A setting.", file), recipes


class Doubled:
    """A model function whose network is in float64, with the initial weights of float32."""

    def __init__(self, model: Callable[[], nn.Module]) -> None:
        self.model = model

    def __call__(self) -> nn.Module:
        return self.model().double()


def in_doubles(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def hpos_curves(recipes: Recipes, configuration: Configuration, setting: Mapping[str, Value]) -> dict[str, list[float]]:
    parts = recipes.parts(configuration.name, setting)
    recipe = recipes.recipe(configuration, rerun=True, training=parts.training)
    source = recipe.source._replace(
        **{
            name: in_doubles(getattr(recipe.source, name))
            for name in ("inputs", "labels", "test_inputs", "test_labels")
        }
    )
    recipe = recipe._replace(model=Doubled(recipe.model), source=check_source(source, recipe.dataset.task))
    [result] = train(recipe, [Member(SEED, parts.hyperparameters)], test=True)
    assert result.diverged_epoch is None
    return result.curves | {name: [value] for name, value in result.final.items() if name.startswith("test_")}


def run_script(runner: Runner, script: str, folder: Path) -> dict[str, list[float]]:
    """The curves that a script prints in float64."""
    assert script.count("DTYPE = torch.float32") == 1
    path = folder / "script.py"
    path.write_text(script.replace("DTYPE = torch.float32", "DTYPE = torch.float64"))
    return read_curves(runner.output(path))


def both_curves(
    runner: Runner, folder: Path, configuration: Configuration, file: str | None = None, **fields: Any
) -> tuple[str, dict[str, list[float]], dict[str, list[float]]]:
    """The script of a setting, the curves that it prints, and those of hpo."""
    script, recipes = script_of(configuration, str(folder / file) if file else None, **fields)
    own = hpos_curves(recipes, configuration, setting_of(recipes, configuration))
    return script, run_script(runner, script, folder), own


def assert_same_curves(*arguments: Any, **fields: Any) -> str:
    """Trains a setting by hpo and by its script; returns the script."""
    script, printed, own = both_curves(*arguments, **fields)
    assert {"train_loss", "validation_loss", "test_loss"} < printed.keys() and len(printed) == 5
    assert len(printed["train_loss"]) == fields.get("epochs", EPOCHS)
    for name, values in printed.items():
        assert values == pytest.approx(own[name], abs=1e-4), name
    return script
