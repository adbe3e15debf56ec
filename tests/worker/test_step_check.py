"""Before training, each configuration with user code makes a step: what always fails is refused in one sentence."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo import Configuration, Regularizer, Study, from_torch, log_range
from hpo.errors import UsageError
from hpo.optim.optimizers import per_model
from hpo.worker import step_check
from hpo.worker.trainer import Trainer
from tests.data.test_data_loading import Clouds

pytestmark = pytest.mark.usefixtures("one_thread")


class Signs(torch.optim.Optimizer):
    """lr · sign(g), written like the optimizers of PyTorch."""

    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, *_: Any) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                self.change(parameter, group["lr"])

    def change(self, parameter: Tensor, rate: float) -> None:
        parameter.sub_(parameter.grad.sign(), alpha=rate)  # type: ignore[union-attr]


class WrongShape(Signs):
    def change(self, parameter: Tensor, rate: float) -> None:
        parameter.sub_(parameter.grad[:2].T, alpha=rate)  # type: ignore[index]


class Unknown(Signs):
    def change(self, parameter: Tensor, rate: float) -> None:
        parameter.sub_(momentum, alpha=rate)  # type: ignore[name-defined]  # noqa: F821


class NoStep(torch.optim.Optimizer):
    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})


def muon(named_parameters: Any, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.Muon([parameter for _, parameter in named_parameters], lr=learning_rate)


def torch_optimizer(source: Any) -> Configuration:
    name = "learning_rate" if source is muon else "lr"
    return Configuration("Mine", optimizer=from_torch(source, **{name: log_range(1e-4, 1e-2)}))


def regularizer(grads: Any) -> Configuration:
    return Configuration("Mine", regularizer=Regularizer("mine", grads))


def plain(objective: Any, params: Any, state: Any, _: Any) -> Any:
    return objective.grad(params), state, {}


def divided(*_: Any) -> Any:
    return 1 / 0


def study(*configurations: Configuration, **changes: Any) -> Study:
    chosen: dict[str, Any] = {
        "data": Clouds(), "model": lambda: nn.Linear(4, 3), "epochs": 2, "trials": 2, "seeds": 3, "tuning_runs": 1,
        "batch_size": 8, "baseline": "A", "configurations": (Configuration("A"), *configurations),
    }  # fmt: skip
    return Study(**chosen | changes)


WRONG = {
    "a wrong shape": (torch_optimizer(WrongShape), "RuntimeError"),
    "an unknown name": (torch_optimizer(Unknown), "NameError: name 'momentum' is not defined"),
    "no step": (torch_optimizer(NoStep), "NoStep has no step"),
    "other parameters": (torch_optimizer(muon), "ValueError: Muon only supports 2D"),
    "a regularizer": (regularizer(divided), "ZeroDivisionError"),
    "an optimizer of hpo's form": (
        Configuration("Mine", optimizer=per_model("mine", lambda _: {}, divided, {"learning_rate": 0.1})),
        "ZeroDivisionError",
    ),
}


@pytest.mark.parametrize("population", [None, 3])
@pytest.mark.parametrize("name", WRONG)
def test_what_always_fails_is_refused_with_its_line(name: str, population: int | None) -> None:
    configuration, words = WRONG[name]
    with pytest.raises(UsageError) as caught:
        Trainer(study(configuration), "cpu", max_models=population).size()
    text = str(caught.value)
    assert "'Mine'" in text and words in text and "\n" not in text
    assert ("test_step_check.py, line " in text) == (name != "no step")


def test_a_loss_that_fails_in_training_is_refused() -> None:
    def detached(outputs: Tensor, labels: Tensor) -> Tensor:
        if outputs.requires_grad:
            raise ValueError("no gradient")
        return F.cross_entropy(outputs, labels, reduction="none")

    def divided_loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels, reduction="none") / 0 * divided()

    for loss in (detached, divided_loss):
        with pytest.raises(
            UsageError, match=r"the loss raises (ValueError|ZeroDivisionError).*test_step_check\.py, line"
        ):
            Trainer(study(Configuration("B", optimizer="sgd"), loss=loss), "cpu").size()


def test_only_configurations_with_user_code_make_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(step_check, "_check", lambda _, configuration, __: tried.append(configuration.name))
    builtin = Configuration("B", optimizer="sgd", regularizer="gnvr")
    library = Configuration("C", optimizer=from_torch(torch.optim.RAdam, lr=log_range(1e-4, 1e-2)))
    Trainer(study(builtin, library), "cpu").size()
    assert tried == []
    Trainer(study(builtin, torch_optimizer(Signs), library), "cpu").size()
    assert tried == ["Mine"]
    Trainer(study(builtin, loss=lambda o, y: F.cross_entropy(o, y, reduction="none")), "cpu").size()
    assert tried == ["Mine", "A"]


@pytest.mark.parametrize("configuration", [torch_optimizer(Signs), regularizer(plain)])
def test_what_works_is_accepted(configuration: Configuration) -> None:
    generator = torch.random.get_rng_state()
    assert Trainer(study(configuration), "cpu").size() >= 1
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_too_little_memory_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(step_check, "make_first_step", fill)
    assert Trainer(study(regularizer(plain)), "cpu").size() >= 1


def test_slow_steps_do_not_hold_up_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_check, "LIMIT", 0.0)
    assert Trainer(study(regularizer(divided)), "cpu").size() >= 1
