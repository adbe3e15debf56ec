"""What `from_torch` refuses, each in one sentence that says what to do."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_runs import NETWORK, run

from hpo.errors import UsageError
from hpo.optim.torch_optimizer import TorchOptimizer, from_torch
from hpo.search_space import choice, integers, linear_range, log_range
from hpo.study.components import full_space
from hpo.study.definition import describe
from hpo.study.fingerprint import fingerprint
from hpo.study.study import Configuration, Study

pytestmark = pytest.mark.usefixtures("one_thread")


class Lion(torch.optim.Optimizer):
    """Sign of an interpolation between momentum and gradient (arXiv:2302.06675)."""

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, _: Any = None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(m.lerp(p.grad, 1 - beta1).sign(), alpha=-group["lr"])
                m.lerp_(p.grad, 1 - beta2)


class TakesAnything(torch.optim.SGD):
    """Like most classes of the package pytorch_optimizer."""

    def __init__(self, params: Any, lr: float, **options: Any) -> None:
        super().__init__(params, lr, momentum=options.get("momentum", 0.0))


class Wrapper(torch.optim.Optimizer):
    def __init__(self, params: Any, base: Any, **options: Any) -> None:
        raise NotImplementedError


def anything(named_parameters: Any, **hyperparameters: float) -> Any:
    return torch.optim.SGD([parameter for _, parameter in named_parameters], **hyperparameters)


def needs_k(_: Any, k: int, learning_rate: float) -> Any:
    return k, learning_rate


def two_names(_: Any, learning_rate: float, betas: Any = (0, 1), beta1: float = 0) -> Any:
    return learning_rate, betas, beta1


def nothing(_: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.optim.AdamW, "hpo.from_torch(torch.optim.AdamW, "), (Lion, "hpo.from_torch(Lion, "),
        ("rmsprop", "hpo.from_torch(torch.optim.RMSprop, "), (anything, "hpo.from_torch(anything, "),
        (torch.optim.SGD([torch.zeros(1)]), "hpo.from_torch(torch.optim.SGD, "),
        ("adamw2", "did you mean 'adam' or 'adamw'"),
    ],
)  # fmt: skip
def test_an_optimizer_without_from_torch_is_told_how(given: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        full_space(Configuration("A", given))
    assert words in str(caught.value)


def test_numbers_and_ranges_become_hyperparameters() -> None:
    rates, decays = log_range(1e-5, 1e-2), linear_range(0, 1)
    optimizer = from_torch(Lion, learning_rate=rates, betas=(0.9, 0.99), weight_decay=decays)
    assert optimizer.hyperparameters == {"learning_rate": rates, "beta1": 0.9, "beta2": 0.99, "weight_decay": decays}
    assert next(iter(optimizer.hyperparameters)) == "learning_rate" and optimizer.constants == {}
    assert from_torch(Lion, lr=1e-3).hyperparameters == {
        "learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0,
    }  # fmt: skip


def test_whole_numbers_stay_whole_and_other_values_are_passed_on() -> None:
    optimizer = from_torch(torch.optim.LBFGS, learning_rate=1, max_iter=4, line_search_fn="strong_wolfe")
    assert optimizer.constants == {"line_search_fn": "strong_wolfe"}
    parameter = torch.nn.Parameter(torch.ones(1))
    values = {name: float(value) for name, value in optimizer.hyperparameters.items()}
    [built] = optimizer.build([([("w", parameter)], values | {"learning_rate": 0.5})])
    [group] = built.param_groups
    assert group["lr"] == 0.5 and type(group["max_iter"]) is int and type(group["tolerance_grad"]) is float
    assert (group["max_iter"], group["history_size"], group["line_search_fn"]) == (4, 100, "strong_wolfe")


def test_whole_numbers_truth_values_and_texts_are_tuned() -> None:
    optimizer = from_torch(
        torch.optim.LBFGS, learning_rate=1, max_iter=integers(2, 9), history_size=choice(4, 8),
        line_search_fn=choice("strong_wolfe", None),
    )  # fmt: skip
    assert optimizer.static == ("line_search_fn",)
    values = {"learning_rate": 1.0, "max_iter": 3.0, "history_size": 8.0, "line_search_fn": "strong_wolfe"}
    values |= {"tolerance_grad": 1e-7, "tolerance_change": 1e-9}
    [built] = optimizer.build([([("w", torch.nn.Parameter(torch.ones(1)))], values)])
    [group] = built.param_groups
    assert (group["max_iter"], group["history_size"], group["line_search_fn"]) == (3, 8, "strong_wolfe")
    assert type(group["max_iter"]) is type(group["history_size"]) is int
    tuned = from_torch(torch.optim.SGD, learning_rate=0.1, momentum=0.5, nesterov=choice(True, False))
    assert tuned.static == ()
    assert full_space(Configuration("B", optimizer=tuned))["nesterov"] == choice(True, False)


def test_a_partial_is_its_function_with_further_arguments() -> None:
    partial = functools.partial(torch.optim.Adam, amsgrad=True, betas=(0.8, 0.9))
    optimizer = from_torch(partial, learning_rate=0.1)
    assert optimizer.constants == {"amsgrad": True} and optimizer.hyperparameters["beta1"] == 0.8


REFUSED: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "an instance": (lambda: from_torch(torch.optim.SGD([torch.ones(1)])), ("an object of the class SGD; give a",)),
    "another class": (lambda: from_torch(dict, learning_rate=1), ("from_torch got dict; give a subclass",)),
    "no rate": (lambda: from_torch(Lion), ("from_torch(Lion): give its learning_rate", "log_range(1e-5, 1e-2)")),
    "two rates": (lambda: from_torch(Lion, lr=1, learning_rate=1), ("both learning_rate and lr",)),
    "a typo": (lambda: from_torch(Lion, lr=1, weight_decai=1), ("'weight_decai'", "did you mean 'weight_decay'?")),
    "a name that nobody reads": (
        lambda: from_torch(TakesAnything, lr=1, decay=log_range(1e-4, 1)),
        ("accepts 'decay' without naming it", "leave it out (it names learning_rate)"),
    ),
    "a constant that nobody reads": (lambda: from_torch(TakesAnything, lr=1, betas=(0.9, 0.99)), ("'betas'",)),
    "no default": (lambda: from_torch(needs_k, lr=1), ("'k' has no default",)),
    "no parameters": (lambda: from_torch(lambda: None), ("does not take parameters as its first argument",)),
    "one range for two": (lambda: from_torch(Lion, lr=1, betas=linear_range(0.8, 0.9)), ("betas=(…, 0.99)",)),
    "two of one name": (
        lambda: from_torch(two_names, learning_rate=1),
        ("two of its arguments would be the hyperparameter 'beta1'",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_arguments(case: str) -> None:
    build, fragments = REFUSED[case]
    with pytest.raises(UsageError) as caught:
        build()
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)
    assert "\n" not in str(caught.value)


def cloned(named_parameters: Any, learning_rate: float) -> Any:
    return torch.optim.SGD([parameter.detach().clone() for _, parameter in named_parameters], lr=learning_rate)


def twice(named_parameters: Any, learning_rate: float) -> Any:
    parameters = [parameter for _, parameter in named_parameters]
    return [torch.optim.SGD(parameters, lr=learning_rate), torch.optim.SGD(parameters[:1], lr=learning_rate)]


def takes_model(model: Any, learning_rate: float) -> Any:
    return torch.optim.SGD(model.parameters(), lr=learning_rate)


class WithGradients(torch.optim.SGD):
    """A step that PyTorch records."""

    def step(self, _: Any = None) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            p -= 0.1 * p.grad


UNUSABLE: dict[str, tuple[Callable[[], TorchOptimizer], tuple[str, ...]]] = {
    "matrices only": (
        lambda: from_torch(torch.optim.Muon, lr=0.1),
        ("optimizer 'Muon' cannot be built", "only supports 2D", "a function (named_parameters, **hyperparameters)"),
    ),
    "sparse gradients": (
        lambda: from_torch(torch.optim.SparseAdam, lr=0.1),
        ("optimizer 'SparseAdam' cannot make a step", "does not support dense gradients"),
    ),
    "no optimizer": (lambda: from_torch(nothing), ("returns a NoneType; return a torch.optim",)),
    "other parameters": (lambda: from_torch(cloned, lr=0.1), ("a parameter that it was not given",)),
    "a model": (lambda: from_torch(takes_model, lr=0.1), ("'takes_model'", "a list of (name, parameter)")),
    "gradients": (lambda: from_torch(WithGradients, lr=0.1), ("'WithGradients'", "@torch.no_grad()")),
    "twice": (lambda: from_torch(twice, lr=0.1), ("'linear1.weight' in several optimizers",)),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_optimizers_that_cannot_train_the_network(case: str) -> None:
    build, fragments = UNUSABLE[case]
    with pytest.raises(UsageError) as caught:
        run(2, optimizer=build())
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_another_class_reads_are_taken() -> None:
    extended = from_torch(TakesAnything, lr=1, momentum=linear_range(0, 0.9), note="any text")
    assert extended.hyperparameters["momentum"] == linear_range(0, 0.9) and extended.constants == {"note": "any text"}
    assert from_torch(Wrapper, base=Lion, lr=1, weight_decay=0.5).hyperparameters["weight_decay"] == 0.5
    package = pytest.importorskip("pytorch_optimizer")
    assert "momentum" in from_torch(package.SAM, base_optimizer=torch.optim.SGD, lr=1, momentum=0.9).hyperparameters
    with pytest.raises(UsageError, match="'weight_decay'"):
        from_torch(package.SM3, lr=0.1, weight_decay=log_range(1e-4, 1))


def test_optimizers_that_need_a_graph_of_the_gradient_are_refused() -> None:
    package = pytest.importorskip("pytorch_optimizer")
    with pytest.raises(UsageError, match=r"'AdaHessian' cannot make a step .*does not require grad"):
        run(2, optimizer=from_torch(package.AdaHessian, lr=0.1))


def test_a_learning_rate_that_a_class_ignores_is_refused() -> None:
    package = pytest.importorskip("pytorch_optimizer")
    with pytest.raises(UsageError, match=r"'AliG' has no learning rate; leave learning_rate out"):
        run(2, optimizer=from_torch(package.AliG, lr=0.1))
    assert run(2, optimizer=from_torch(package.AliG, max_lr=0.1), steps=2)[1][1]["train_loss"].isfinite().all()
    with pytest.raises(UsageError, match=r"'SAM' has a learning rate; give learning_rate"):
        run(2, optimizer=from_torch(package.SAM, base_optimizer=torch.optim.SGD))


def test_a_closure_that_only_later_steps_call_has_to_be_required() -> None:
    class Late(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            self.count = getattr(self, "count", 0) + 1
            if self.count == 4:
                closure()
            super().step()

    class Required(Late):
        def step(self, closure: Any) -> None:
            super().step(closure)

    assert run(2, optimizer=from_torch(Required, lr=0.1), steps=4)[0].gradient_evaluations == [1.25, 1.25]
    with pytest.raises(UsageError, match=r"'Late' calls its closure.*def step\(self, closure\)"):
        run(2, optimizer=from_torch(Late, lr=0.1), steps=4)


def test_an_error_in_the_users_step_keeps_its_traceback() -> None:
    class Wrong(torch.optim.SGD):
        def step(self, _: Any = None) -> None:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        run(2, optimizer=from_torch(Wrong, lr=0.1))


def test_parameters_that_no_optimizer_has_are_named_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def first_only(named_parameters: Any, learning_rate: float) -> Any:
        return torch.optim.SGD([named_parameters[0][1]], lr=learning_rate)

    population, _ = run(2, optimizer=from_torch(first_only, lr=0.1))
    assert "'first_only' does not train linear1.bias, linear2.weight, linear2.bias" in caplog.text
    sizes = [parameter.numel() for parameter in NETWORK().parameters()]
    assert population.parameter_counts() == {"parameters": sum(sizes), "untrained_parameters": sum(sizes[1:])}


def study(optimizer: Any, **fields: Any) -> Study:
    from hpo.data import Mnist1d

    configurations = (Configuration("A"), Configuration("B", optimizer=optimizer, **fields))
    return Study(data=Mnist1d(), model=NETWORK, configurations=configurations, baseline="A")


def test_the_definition_names_the_class_and_its_arguments() -> None:
    def described(optimizer: TorchOptimizer, **fields: Any) -> Any:
        return describe(study(optimizer, **fields))["configurations"][1]

    entry = described(from_torch(torch.optim.Adam, lr=0.1, amsgrad=True), space={"weight_decay": log_range(1e-4, 1)})
    assert entry["optimizer"] == {"kind": "torch.optim.Adam", "amsgrad": True}
    assert entry["space"]["weight_decay"]["high"] == 1 and entry["space"]["eps"] == 1e-8
    assert described(from_torch(Lion, lr=0.1))["optimizer"] == {"kind": "Lion"}
    named = described(from_torch(anything, lr=0.1, foreach=True, other=torch.optim.SGD))["optimizer"]
    assert named == {"kind": "anything", "foreach": True, "other": "SGD"}
    with pytest.raises(UsageError, match=r"from_torch\(anything\): an argument is not a plain value"):
        described(from_torch(anything, lr=0.1, other=object()))


def test_the_users_code_is_fingerprinted() -> None:
    def names(optimizer: TorchOptimizer) -> set[str]:
        return set(fingerprint(study(optimizer)))

    assert any("Lion" in name for name in names(from_torch(Lion, lr=0.1)))
    assert any("anything" in name for name in names(from_torch(anything, lr=0.1)))
    assert not any("Adam" in name for name in names(from_torch(torch.optim.Adam, lr=0.1)))
