"""Optimizers around built-in ones, against torch.optim with the same changes by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_loops import MEMBERS, RATES, STEPS, assert_equal, batch, factor, modules, populate, train

from hpo import MLP, Configuration, Mnist1d, Study
from hpo.errors import UsageError
from hpo.optim.optimizers import OPTIMIZERS, Optimizer
from hpo.optim.torch_optimizer import from_torch
from hpo.optim.wrapping import wrap
from hpo.study.fingerprint import fingerprint
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

ADAM = {"weight_decay": 0.1, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


def centralized(gradient: Tensor) -> Tensor:
    """Gradient centralization (arXiv:2004.01461)."""
    return gradient - gradient.mean(1, keepdim=True) if gradient.dim() == 2 else gradient


def before(grads: Tree, state: Any, _: Tree, hyper: Tree) -> tuple[Tree, Any]:
    """Centralizes and adds a share of the last gradient."""
    now = {name: centralized(leaf) + hyper["share"] * state["last"][name] for name, leaf in grads.items()}
    return now, state | {"last": grads}


def after(params: Tree, state: Any, previous: Tree, hyper: Tree) -> tuple[Tree, Any]:
    """Lookahead (arXiv:1907.08610) with 3 fast steps, and a pull towards the parameters before the step."""
    step = state["step"] + 1
    pulled = {name: leaf + 0.1 * (previous[name] - leaf) for name, leaf in params.items()}
    slow = {name: leaf.lerp(pulled[name], hyper["alpha"]) for name, leaf in state["slow"].items()}
    looks = (step % 3 == 0).to(step.dtype)
    chosen = {name: pulled[name].lerp(slow[name], looks) for name in pulled}
    kept = {name: leaf.lerp(slow[name], looks) for name, leaf in state["slow"].items()}
    return chosen, state | {"slow": kept, "step": step}


def init(params: Tree) -> Any:
    zeros = {name: torch.zeros_like(leaf) for name, leaf in params.items()}
    return {"last": zeros, "slow": dict(params), "step": torch.zeros((), dtype=torch.float64)}


def wrapped(name: str = "adam") -> Optimizer:
    return wrap(name, before=before, after=after, init=init, hyperparameters={"share": 0.3, "alpha": 0.5})


def by_hand(network: nn.Module, rate: float, member: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=0.1)
    parameters = list(network.parameters())
    slow = [parameter.detach().clone() for parameter in parameters]
    last = [torch.zeros_like(parameter) for parameter in parameters]
    for step in range(STEPS):
        inputs, labels = (part[member] for part in batch(step))
        optimizer.param_groups[0]["lr"] = rate * factor(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[0]), labels).backward()
        previous = [parameter.detach().clone() for parameter in parameters]
        for index, parameter in enumerate(parameters):
            gradient = parameter.grad
            assert gradient is not None
            parameter.grad = centralized(gradient) + 0.3 * last[index]
            last[index] = gradient
        optimizer.step()
        with torch.no_grad():
            for index, parameter in enumerate(parameters):
                parameter += 0.1 * (previous[index] - parameter)
                if (step + 1) % 3 == 0:
                    slow[index] += 0.5 * (parameter - slow[index])
                    parameter.copy_(slow[index])


def test_changes_before_and_after_the_update() -> None:
    population, networks = populate(wrapped(), modules(), **ADAM), modules()
    train(population)
    for member, network in enumerate(networks):
        by_hand(network, RATES[member], member)
    assert_equal(population, networks)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_wrapper_that_does_nothing_changes_nothing(name: str) -> None:
    values = ADAM if "adam" in name else {"momentum": 0.9, "weight_decay": 0.1}
    plain, other = populate(OPTIMIZERS[name], modules(), **values), populate(wrap(name), modules(), **values)
    for population in (plain, other):
        train(population, range(5))
    for key, leaf in plain.params.items():
        assert torch.equal(other.params[key], leaf)


def test_the_state_is_saved_and_pruned() -> None:
    full, loaded, pruned = (populate(wrapped("adamw"), modules(), **ADAM) for _ in range(3))
    for population in (full, pruned):
        train(population, range(4))
    loaded.restore(full.states())
    pruned.keep(list(range(MEMBERS)))
    for population in (full, loaded, pruned):
        train(population, range(4, 9))
    for name, leaf in full.params.items():
        assert torch.equal(loaded.params[name], leaf)
        assert torch.equal(pruned.params[name], leaf)


def test_a_wrapper_may_be_wrapped_and_keeps_evaluated_weights() -> None:
    inner = OPTIMIZERS["sgd"]._replace(evaluated=lambda _, state: state["momentum"])
    population = populate(wrap(wrap(inner, before=lambda grads, state, *_: (grads, state))), modules(),
                          momentum=0.9, weight_decay=0.0)  # fmt: skip
    train(population, range(3))
    momentum = population.optimizer_state["optimizer"]["optimizer"]["momentum"]
    evaluated = population.updates.evaluated(population.params)
    assert all(torch.equal(evaluated[name], leaf) for name, leaf in momentum.items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_may_keep_the_parameters_themselves(name: str) -> None:
    """The update of a built-in optimizer changes them in place, and not what the state keeps of them."""

    def distance(one: Tree, other: Tree) -> Tensor:
        return torch.stack([(leaf - other[key]).abs().sum() for key, leaf in one.items()]).sum()

    def init(params: Tree) -> Any:
        zero = torch.zeros((), dtype=torch.float64)
        return {"before": params, "last": params, "wrong": zero, "moved": zero}

    def before(grads: Tree, state: Any, params: Tree, _: Tree) -> tuple[Tree, Any]:
        return grads, state | {"before": params}

    def after(params: Tree, state: Any, previous: Tree, _: Tree) -> tuple[Tree, Any]:
        wrong = state["wrong"] + distance(state["before"], previous) + distance(state["last"], previous)
        return params, state | {"last": params, "wrong": wrong, "moved": distance(params, state["before"])}

    values = ADAM if "adam" in name else {"momentum": 0.9, "weight_decay": 0.1}
    population = populate(wrap(name, before, after, init), modules(), **values)
    train(population, range(4))
    own = population.optimizer_state["own"]
    assert not own["wrong"].any() and bool((own["moved"] > 0).all())


def test_what_cannot_be_wrapped_is_refused() -> None:
    with pytest.raises(UsageError, match=r"wrap got 'adamm'; give one of .*; did you mean 'adam'"):
        wrap("adamm")
    with pytest.raises(UsageError, match=r"wrap got a TorchOptimizer; .* a subclass of its class, in hpo.from_torch"):
        wrap(from_torch(torch.optim.Adam, lr=0.1))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"optimizer 'adam' already has 'beta1'"):
        wrap("adam", hyperparameters={"beta1": 0.1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"before": lambda grads, *_: grads}, r"its before returns a dict; return \(grads, state\)"),
        ({"after": lambda _, state, *__: ({}, state)}, r"its result lacks the leaf 'linear1.weight'"),
        ({"before": lambda grads, *_: (grads, {"new": 1})}, r"its state has an additional leaf 'new'"),
        ({"init": lambda _: {"count": 0}}, r"its state's leaf 'count' is 0; return tensors"),
        ({"after": lambda params: params}, r"is called as after\(params, state, previous, hyper\)"),
    ],
)
def test_wrong_functions_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=rf"optimizer 'wrapped sgd'.*{message}"):
        train(populate(wrap("sgd", **arguments), modules(), momentum=0.9, weight_decay=0.0), range(2))


def test_the_users_functions_are_fingerprinted() -> None:
    def study(optimizer: Any) -> Study:
        configurations = (Configuration("A"), Configuration("B", optimizer=optimizer))
        return Study(data=Mnist1d(), model=MLP((40, 8, 10)), configurations=configurations, baseline="A")

    names = " ".join(fingerprint(study(wrapped())))
    assert all(f": {name}" in names for name in ("before", "after", "init", "centralized"))
    first, second, other = (study(wrap(name, name="mine")) for name in ("adam", "adam", "adamw"))
    assert fingerprint(first) == fingerprint(second) != fingerprint(other)
