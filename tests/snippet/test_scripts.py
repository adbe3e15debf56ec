"""Scripts of settings, run in another process without hpo, give the curves that hpo's own training gives in float64."""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_scripts import Runner, read_curves
from torch import Tensor, nn

import hpo
from hpo.data import check_source, load_source
from hpo.errors import UsageError
from hpo.optim.regularizers import REGULARIZERS
from hpo.search_space import Value
from hpo.snippet.script import write_script
from hpo.study.study import Configuration, Study
from hpo.training.loop import train
from hpo.training.recipe import Member
from hpo.worker.recipes import Recipes

SEED = 1003
NOISY = hpo.Mnist1d(samples=500, label_noise=0.3)
AUGMENTED = hpo.Mnist1d(samples=500, augmented=True)
RATES = {"sgd": 0.1, "nesterov": 0.1, "adam": 0.003, "adamw": 0.003}
# Values that do something within a few epochs.
VALUES: dict[str, Value] = {
    "weight_decay": 0.02, "rho": 0.1, "rho_prime": 0.05, "theta": 0.6, "alpha": 0.4, "beta": 0.5, "gamma": 0.3,
    "lambda": 0.5, "clip": 0.7, "k": 0.5, "strength": 0.1,
}  # fmt: skip


def study_of(configuration: Configuration, **fields: Any) -> Study:
    chosen: dict[str, Any] = {"data": NOISY, "model": hpo.MLP((40, 12, 10)), "epochs": 3, "batch_size": 32} | fields
    return Study(configurations=[configuration, Configuration("other")], baseline="other", **chosen)


def setting_of(recipes: Recipes, configuration: Configuration) -> dict[str, Value]:
    tuned = recipes.space(configuration.name).tuned
    known = VALUES | {"learning_rate": RATES.get(str(configuration.optimizer), 0.003)}
    return {name: known.get(name, bounds.middle()) for name, bounds in tuned.items()}


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


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    process = Runner()
    yield process
    process.close()


def run_script(runner: Runner, script: str, folder: Path) -> dict[str, list[float]]:
    """The curves that a script prints in float64."""
    assert script.count("DTYPE = torch.float32") == 1
    path = folder / "script.py"
    path.write_text(script.replace("DTYPE = torch.float32", "DTYPE = torch.float64"))
    return read_curves(runner.output(path))


Check = Callable[..., str]


@pytest.fixture
def check(runner: Runner, tmp_path: Path) -> Check:
    return functools.partial(assert_same_curves, runner, tmp_path)


def assert_same_curves(
    runner: Runner, folder: Path, configuration: Configuration, file: str | None = None, **fields: Any
) -> str:
    """Trains a setting by hpo and by its script; returns the script."""
    study = study_of(configuration, **fields)
    source = load_source(study.data)
    recipes = Recipes(study, lambda: source)
    setting = setting_of(recipes, configuration)
    path = str(folder / file) if file else None
    if path:
        torch.save(list(source[:4]), path)
    script = write_script(study, source, configuration.name, setting, SEED, "A setting.", path)
    own, printed = hpos_curves(recipes, configuration, setting), run_script(runner, script, folder)
    assert {"train_loss", "validation_loss", "test_loss"} < printed.keys() and len(printed) == 5
    assert len(printed["train_loss"]) == study.epochs
    for name, values in printed.items():
        assert values == pytest.approx(own[name], abs=1e-4), name
    return script


@pytest.mark.parametrize("optimizer", RATES)
def test_optimizers(optimizer: str, check: Check) -> None:
    assert "class Objective" not in check(Configuration("A", optimizer=optimizer))


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


def falling(step: int, steps: int, steps_per_epoch: int, base: float = 0.5) -> float:
    """Falls in every epoch, and over the run."""
    return base ** (step // steps_per_epoch) * (1 - step / (2 * steps))


def test_functions_as_schedules_of_several_hyperparameters(check: Check) -> None:
    schedules = {"rho": hpo.Linear(0.5, 1), "weight_decay": "learning_rate", "momentum": hpo.Linear(1, 0.5)}
    configuration = Configuration("A", optimizer="sgd", regularizer="sam", schedules=schedules, no_decay=("bias",))
    check(configuration, schedule=functools.partial(falling, base=0.7))


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


SCALE = 0.5


class Signs(torch.optim.Optimizer):
    """Signs of the gradient."""

    def __init__(self, parameters: Any, lr: float = 1e-3) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(SCALE * group["lr"] * parameter.grad.sign())


def two_optimizers(named: Any, lr: float = 0.01, momentum: float = 0.5) -> list[torch.optim.Optimizer]:
    """One for matrices and one for the rest."""
    matrices = [parameter for _, parameter in named if parameter.dim() > 1]
    others = [parameter for _, parameter in named if parameter.dim() == 1]
    return [Signs(matrices, lr), torch.optim.SGD(others, lr, momentum)]


@pytest.mark.parametrize("source", [Signs, two_optimizers])
def test_the_users_own_optimizers(source: Any, check: Check) -> None:
    optimizer = hpo.from_torch(source, learning_rate=hpo.log_range(1e-3, 1e-2))
    script = check(Configuration("A", optimizer=optimizer), schedule=hpo.Cosine())
    assert "SCALE = 0.5" in script and "VALUES" not in script


class Wide(nn.Module):
    """A network whose size is an argument of its function."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(40, width), nn.Linear(width, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(inputs)))


def make_wide(width: int = 8) -> nn.Module:
    return Wide(width)


def mean_norm(objective: hpo.Objective, params: Any, state: Any, hyper: Any) -> Any:
    """Mean loss + strength × mean norm of the per-sample gradients, where the running mean of the loss is high."""
    gradient, penalty = objective.penalised_grad(
        params, lambda at: hyper["strength"] * objective.sample_grad_norms(at, epsilon=1e-8).mean()
    )
    seen = 0.9 * state["seen"] + 0.1 * objective.loss(params)
    scaled = {name: leaf * (1 + hyper["on"] * seen) for name, leaf in gradient.items()}
    return scaled, {"seen": seen}, {"penalty": penalty}


def start(params: Any) -> Any:
    return {"seen": next(iter(params.values())).new_zeros(())}


def hinge(outputs: Tensor, labels: Tensor) -> Tensor:
    """A multi-class hinge loss."""
    own = outputs.gather(1, labels[:, None])
    return (1 + outputs - own).clamp(min=0).sum(1) - 1


def test_the_users_network_regularizer_and_loss(check: Check) -> None:
    parts = {"strength": hpo.log_range(1e-3, 1), "on": True}
    mine = hpo.Regularizer("mine", mean_norm, parts, init=start)
    configuration = Configuration("A", regularizer=mine, space={"model.width": hpo.choice(6, 7), "batch_size": 20})
    script = check(configuration, model=make_wide, loss=hinge)
    assert "class Wide" in script and "BATCH_SIZE = 20" in script


@pytest.mark.parametrize("noise", ["symmetric", "symmetric_exclusive"])
def test_label_noise_and_other_splits(noise: str, check: Check) -> None:
    data = hpo.Mnist1d(samples=500, label_noise=0.25, noise=noise, validation=0.31, split="last", iid_noise_scale=0.1)
    weights = (1.0, 2.0) * 5
    loss = hpo.CrossEntropy(label_smoothing=0.1, class_weights=weights)
    check(Configuration("A", optimizer="adam"), data=data, last_batch="keep", loss=loss)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("task", ["regression", "several numbers", "multilabel", "logit"])
def test_samples_in_a_file(task: str, check: Check) -> None:
    inputs, outputs = numbers(300, 5), {"several numbers": 2, "multilabel": 3}.get(task, 1)
    labels: Any = inputs[:, :outputs] ** 2
    labels = labels[:, 0] if task == "regression" else labels if task == "several numbers" else (labels > 0.3).long()
    labels = labels[:, 0] if task == "logit" else labels
    data = hpo.Arrays(inputs, labels, label_noise=0.1 if task == "logit" else 0.0)
    check(Configuration("A", regularizer="sam"), "samples.pt", data=data, model=hpo.MLP((5, 8, outputs)))


def test_a_table_is_standardised(check: Check) -> None:
    pandas = pytest.importorskip("pandas")
    values = numbers(200, 2) * 50 + 7
    frame = pandas.DataFrame({"a": values[:, 0], "b": values[:, 1], "kind": ["x", "y"] * 100, "y": values.sum(1)})
    frame.loc[::17, "a"] = float("nan")
    data = hpo.Table(frame, target="y", missing="mean")
    check(Configuration("A"), "table.pt", data=data, model=hpo.MLP((data.features, 8, 1)))


def refusal(configuration: Configuration, **fields: Any) -> str:
    study = study_of(configuration, **fields)
    source = load_source(study.data)
    recipes = Recipes(study, lambda: source)
    with pytest.raises(UsageError) as caught:
        write_script(study, source, configuration.name, setting_of(recipes, configuration), SEED, "A setting.")
    message = str(caught.value)
    assert "\n" not in message and ";" in message
    return message


def drawn(objective: hpo.Objective, params: Any, state: Any, _: Any) -> Any:
    return objective.grad({name: leaf + objective.random.normal(leaf) for name, leaf in params.items()}), state, {}


def with_hpos_function(outputs: Tensor, labels: Tensor) -> Tensor:
    return load_source(hpo.Mnist1d()).inputs[:1].mean() + outputs[:, 0] + labels


def test_what_a_script_cannot_have_is_named() -> None:
    plain = Configuration("A")
    assert "objective.random" in refusal(Configuration("A", regularizer=hpo.Regularizer("mine", drawn)))
    assert "closure" in refusal(Configuration("A", optimizer=hpo.from_torch(torch.optim.LBFGS, learning_rate=0.1)))
    assert "lambda" in refusal(plain, model=lambda: make_wide())
    assert "load_source" in refusal(plain, loss=with_hpos_function)
    assert "average" in refusal(Configuration("A", average=hpo.EMA()))
    assert "--data" in refusal(plain, data=hpo.Arrays(numbers(100, 40), torch.arange(100) % 10))
    assert "Regularizer" in refusal(Configuration("A", regularizer=hpo.clipped("sam")))
    assert "accumulate" in refusal(plain, accumulate=2)
