"""Scripts of settings with the user's own functions and classes give hpo's own curves in float64."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from script_curves import Check
from torch import Tensor, nn

import hpo
from hpo.errors import UsageError
from hpo.snippet.extraction import Extraction
from hpo.study.study import Configuration


def falling(step: int, steps: int, steps_per_epoch: int, base: float = 0.5) -> float:
    """Falls in every epoch, and over the run."""
    return base ** (step // steps_per_epoch) * (1 - step / (2 * steps))


def test_functions_as_schedules_of_several_hyperparameters(check: Check) -> None:
    schedules = {"rho": hpo.Linear(0.5, 1), "weight_decay": "learning_rate", "momentum": hpo.Linear(1, 0.5)}
    configuration = Configuration("A", optimizer="sgd", regularizer="sam", schedules=schedules, no_decay=("bias",))
    check(configuration, schedule=functools.partial(falling, base=0.7))


def learning_rate_schedule(step: int, steps: int, _: int) -> float:
    return 1 - step / (2 * steps)


def steps(step: int, steps: int, _: int) -> float:
    """Its name is that of an argument of schedules."""
    return 1 - step / (3 * steps)


@pytest.mark.parametrize("schedule", [learning_rate_schedule, steps])
def test_a_schedule_with_a_name_that_the_script_has_elsewhere(schedule: Any, check: Check) -> None:
    check(Configuration("A", optimizer="sgd", schedules={"weight_decay": schedule}), schedule=schedule)


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


class Halved(torch.optim.SGD):
    """SGD whose weights are half as large where they are evaluated."""

    scale = 1.0

    def train(self) -> None:
        self.rescale(1.0)

    def eval(self) -> None:
        self.rescale(SCALE)

    @torch.no_grad()
    def rescale(self, scale: float) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.mul_(scale / self.scale)
        self.scale = scale


def one_with_modes(named: Any, lr: float = 0.01) -> list[torch.optim.Optimizer]:
    """One of two optimizers has train() and eval()."""
    first, *others = (parameter for _, parameter in named)
    return [Halved([first], lr), torch.optim.SGD(others, lr)]


def made(named: Any, lr: float = 0.01) -> torch.optim.Optimizer:
    return Halved([parameter for _, parameter in named], lr)


@pytest.mark.parametrize("source", [Signs, two_optimizers, Halved, one_with_modes, made])
def test_the_users_own_optimizers(source: Any, check: Check) -> None:
    optimizer = hpo.from_torch(source, learning_rate=hpo.log_range(1e-3, 1e-2))
    script = check(Configuration("A", optimizer=optimizer), schedule=hpo.Cosine())
    assert "SCALE = 0.5" in script and "VALUES" not in script


class Wide(nn.Module):
    """A network whose size is an argument of its function."""

    slope = 1.5
    steepest = 2 * slope

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(40, width), nn.Linear(width, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(torch.tanh(self.steepest * self.first(inputs)))


def make_wide(width: int = 8) -> nn.Module:
    return Wide(width)


def with_a_shared_layer() -> nn.Module:
    shared = nn.Tanh()
    return nn.Sequential(nn.Linear(40, 12), shared, nn.Linear(12, 12), shared, nn.Linear(12, 10))


def with_a_shared_norm() -> nn.Module:
    shared = nn.LayerNorm(12)
    return nn.Sequential(nn.Linear(40, 12), shared, nn.Linear(12, 12), shared, nn.Linear(12, 10))


def with_hidden_arguments() -> nn.Module:
    pool = nn.AvgPool1d(3, padding=1, ceil_mode=True, count_include_pad=False)
    return nn.Sequential(nn.Unflatten(1, (1, 40)), pool, nn.Flatten(), nn.Linear(14, 10))


def doubled(_: nn.Module, _inputs: Any, outputs: Tensor) -> Tensor:
    return 2 * outputs


def with_a_hook() -> nn.Module:
    network = nn.Sequential(nn.Linear(40, 12), nn.Tanh(), nn.Linear(12, 10))
    network[1].register_forward_hook(doubled)
    return network


@pytest.mark.parametrize("model", [with_a_shared_layer, with_a_shared_norm, with_hidden_arguments, with_a_hook])
def test_sequences_whose_layers_do_not_show_everything(model: Any, check: Check) -> None:
    script = check(Configuration("A", optimizer="sgd"), model=model)
    assert (f"def {model.__name__}()" in script) == (model is not with_a_shared_layer)


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


def gradient(objective: hpo.Objective, params: Any, state: Any, _: Any) -> Any:
    """The mean of the gradients on an augmented view and on the clean one; its name is one of the loop's variables."""
    both = objective.grad(params), objective.grad(params, "clean")
    return {name: (leaf + both[1][name]) / 2 for name, leaf in both[0].items()}, state, {}


def test_a_clean_view(check: Check) -> None:
    mine = hpo.Regularizer("mine", gradient, clean_view=True)
    check(Configuration("A", regularizer=mine), data=hpo.Mnist1d(samples=500, augmented=True))


class Counting(nn.Module):
    """A network that counts its training passes in a buffer, on which its outputs depend."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        self.layer, self.in_place = nn.Linear(40, 10), in_place
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.layer(inputs) / (1 + 0.1 * self.passes)
        if self.training and self.in_place:
            self.passes += 1
        elif self.training:
            self.passes = self.passes + 1
        return outputs


@pytest.mark.parametrize("regularizer", ["sam", "gnvr"])
@pytest.mark.parametrize("in_place", [False, True])
def test_buffers_that_the_network_changes(regularizer: str, in_place: bool, check: Check) -> None:
    check(Configuration("A", regularizer=regularizer, space={"model.in_place": in_place}), model=Counting)


def outputs(outputs: Tensor, labels: Tensor) -> Tensor:
    """A multi-class hinge loss, whose name is one of its arguments'."""
    own = outputs.gather(1, labels[:, None])
    return (1 + outputs - own).clamp(min=0).sum(1) - 1


class Focal(hpo.CrossEntropy):
    """Focal loss, of Lin et al. (arXiv:1708.02002)."""

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        losses = super().__call__(outputs, labels)
        return (1 - (-losses).exp()) ** 2 * losses


class Halves(hpo.SquaredError):
    """Half the squared error."""

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs.reshape(labels.shape) - labels).square() / 2


def test_losses_that_extend_those_of_hpo(check: Check) -> None:
    check(Configuration("A"), loss=Focal(label_smoothing=0.2, class_weights=(1.0, 2.0) * 5))
    inputs = torch.randn(300, 5)
    check(Configuration("A"), "s.pt", data=hpo.Arrays(inputs, inputs[:, 0]), model=hpo.MLP((5, 1)), loss=Halves())


def test_the_users_network_regularizer_and_loss(check: Check) -> None:
    parts = {"strength": hpo.log_range(1e-3, 1), "on": True}
    mine = hpo.Regularizer("mine", mean_norm, parts, init=start)
    configuration = Configuration("A", regularizer=mine, space={"model.width": hpo.choice(6, 7), "batch_size": 20})
    script = check(configuration, model=make_wide, loss=outputs)
    assert "class Wide" in script and "BATCH_SIZE = 20" in script


DATA = hpo.Arrays(torch.randn(60, 5), torch.arange(60) % 3)


class Sized(nn.Module):
    """A network of the sizes that its data have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(DATA.features, DATA.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


def make_sized() -> nn.Module:
    return nn.Sequential(Sized(), nn.Linear(DATA.outputs, DATA.outputs))


def test_sizes_that_a_network_takes_from_its_data(check: Check, tmp_path: Path) -> None:
    script = check(Configuration("A"), model=make_sized, data=DATA, file=str(tmp_path / "samples.pt"))
    assert "nn.Linear(5, 3)" in script and "DATA" not in script


def make_with_data() -> nn.Module:
    return nn.Linear(len(DATA.load().labels), 3)


def test_a_network_that_needs_the_samples_themselves_is_refused() -> None:
    with pytest.raises(UsageError):
        Extraction().call("the model", make_with_data)
