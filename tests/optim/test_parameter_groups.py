"""Parameter groups and parameters without weight decay, against torch.optim's own parameter groups."""

from typing import Any

import pytest
import torch
from torch import nn
from torch_loops import MEMBERS, assert_equal, modules, plain_loop, populate, train

from hpo.errors import UsageError
from hpo.optim.optimizers import OPTIMIZERS, Optimizer, per_model
from hpo.optim.parameter_groups import fixed, parameter_groups
from hpo.optim.torch_optimizer import TorchOptimizer, from_torch
from hpo.study.configuration_options import check_options, describe_groups
from hpo.study.study import Configuration
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

GROUPS = {"*bias": {"weight_decay": 0}, "linear3.*": {"learning_rate": 0.1, "weight_decay": fixed(0.7)}}
ADAM = {"weight_decay": 0.1, "beta1": 0.9, "beta2": 0.999}


def own_sgd(grads: Tree, state: Any, params: Tree, hyper: Tree) -> tuple[Tree, Any]:
    rate, decay = hyper["learning_rate"], hyper["weight_decay"]
    return {name: leaf - rate * (grads[name] + decay * leaf) for name, leaf in params.items()}, {"n": state["n"] + 1}


CASES: dict[str, tuple[Optimizer | TorchOptimizer, dict[str, float], type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adamw": (OPTIMIZERS["adamw"], ADAM | {"epsilon": 1e-8}, torch.optim.AdamW, {}),
    "sgd": (OPTIMIZERS["sgd"], {"weight_decay": 0.1, "momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
    "per_model": (
        per_model("own", lambda _: {"n": torch.zeros(())}, own_sgd, {"learning_rate": 0.1, "weight_decay": 0.1}),
        {"weight_decay": 0.1}, torch.optim.SGD, {},
    ),
    "from_torch": (from_torch(torch.optim.AdamW, lr=0.1), ADAM | {"eps": 1e-8}, torch.optim.AdamW, {}),
    "not fused": (from_torch(torch.optim.NAdam, lr=0.1), {"weight_decay": 0.1}, torch.optim.NAdam, {}),
}  # fmt: skip


def torch_groups(network: nn.Module, rate: float) -> list[dict[str, Any]]:
    """The same groups by hand."""
    named = dict(network.named_parameters())
    matrices = [named["linear1.weight"], named["linear2.weight"]]
    biases = [named["linear1.bias"], named["linear2.bias"]]
    last = [named["linear3.weight"], named["linear3.bias"]]
    return [
        {"params": matrices, "weight_decay": 0.1},
        {"params": biases, "weight_decay": 0.0},
        {"params": last, "lr": rate * 0.1, "weight_decay": 0.7},
    ]


@pytest.mark.parametrize("case", CASES)
def test_groups_are_those_of_torch(case: str) -> None:
    optimizer, values, torch_class, arguments = CASES[case]
    groups = parameter_groups(modules()[0], GROUPS)
    population = populate(optimizer, modules(), groups=groups, **values)
    train(population)
    networks = modules()
    plain_loop(networks, lambda network, rate: [torch_class(torch_groups(network, rate), lr=rate, **arguments)])
    assert_equal(population, networks)


def test_a_schedule_multiplies_fixed_values_as_well() -> None:
    groups = parameter_groups(modules()[0], {"linear1.*": {"learning_rate": fixed(0.02)}})
    for optimizer, values in ((OPTIMIZERS["sgd"], {"momentum": 0.0}), (from_torch(torch.optim.SGD, lr=0.1), {})):
        population = populate(optimizer, modules(), groups=groups, weight_decay=0.0, **values)
        train(population)
        networks = modules()

        def build(network: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
            named = dict(network.named_parameters())
            first = [named.pop("linear1.weight"), named.pop("linear1.bias")]
            return [torch.optim.SGD([{"params": first, "lr": 0.02}, {"params": [*named.values()], "lr": rate}])]

        plain_loop(networks, build)
        assert_equal(population, networks)


@pytest.mark.parametrize("case", CASES)
def test_groups_are_saved_and_pruned(case: str) -> None:
    optimizer, values, _, _ = CASES[case]
    groups = parameter_groups(modules()[0], GROUPS)
    full, loaded, pruned = (populate(optimizer, modules(), groups=groups, **values) for _ in range(3))
    for population in (full, pruned):
        train(population, range(4))
    loaded.restore(full.states())
    train(loaded, range(4, 9))
    train(full, range(4, 9))
    pruned.keep(list(range(MEMBERS)))
    train(pruned, range(4, 9))
    for name, leaf in full.params.items():
        torch.testing.assert_close(loaded.params[name], leaf, rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(pruned.params[name], leaf, rtol=1e-13, atol=1e-14)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.GRUCell(5, 5))
        self.batch_norm = nn.BatchNorm1d(5)
        self.normal = nn.Linear(5, 2, bias=False)
        self.scale = nn.Parameter(torch.ones(()))


def test_bias_and_norm_are_words_for_kinds_of_parameters() -> None:
    [others, without] = parameter_groups(Network(), {}, ("bias", "norm"))
    assert others.changes == {} and without.changes == {"weight_decay": 0.0}
    assert set(without.names) == {
        "body.0.bias", "body.1.weight", "body.1.bias", "body.2.bias_ih", "body.2.bias_hh",
        "batch_norm.weight", "batch_norm.bias",
    }  # fmt: skip
    assert set(others.names) == {"scale", "body.0.weight", "body.2.weight_ih", "body.2.weight_hh", "normal.weight"}


def test_later_patterns_count_and_all_parameters_may_be_changed() -> None:
    groups = {"*": {"weight_decay": 0.5}, "body.*": {"weight_decay": fixed(1), "learning_rate": 2}}
    unchanged, *others = parameter_groups(Network(), groups, ("bias",))
    assert unchanged.names == ()
    assert [group.changes for group in others] == [
        {"weight_decay": 0.5}, {"weight_decay": fixed(1), "learning_rate": 2},
    ]  # fmt: skip
    all_changed = parameter_groups(modules()[0], {"*": {"weight_decay": 0}})
    population = populate(OPTIMIZERS["adamw"], modules(), groups=all_changed, **ADAM, epsilon=1e-8)
    reference = populate(OPTIMIZERS["adamw"], modules(), **ADAM | {"weight_decay": 0.0}, epsilon=1e-8)
    for each in (population, reference):
        train(each, range(5))
    for name, leaf in reference.params.items():
        assert torch.equal(population.params[name], leaf)


@pytest.mark.parametrize(("groups", "no_decay"), [({"head.*": {"learning_rate": 2}}, ()), ({}, ("haed",))])
def test_a_pattern_that_matches_nothing_is_refused(groups: Any, no_decay: Any) -> None:
    with pytest.raises(UsageError) as caught:
        parameter_groups(Network(), groups, no_decay)
    field, pattern = ("groups", "head.*") if groups else ("no_decay", "haed")
    assert f"{field} names {pattern!r}, which matches no parameter" in str(caught.value)
    assert "body.0.weight" in str(caught.value)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a text": ({"no_decay": "bias"}, r"no_decay is 'bias'; give a tuple"),
    "no dict": ({"groups": {"*": 0.1}}, r"groups\['\*'\] is 0.1; give a dict"),
    "a typo": ({"groups": {"*": {"weight_decai": 0}}}, r"names 'weight_decai'.*did you mean 'weight_decay'"),
    "no number": ({"groups": {"*": {"weight_decay": "0"}}}, r"is '0'; give a factor, or a value as hpo.fixed"),
    "of a regularizer": ({"regularizer": "sam", "groups": {"*": {"rho": 0}}}, r"names 'rho', which optimizer 'adamw'"),
    "no decay": (
        {"optimizer": from_torch(torch.optim.Rprop, lr=0.1), "no_decay": ("bias",)},
        r"no_decay names 'weight_decay', which optimizer 'Rprop' does not have",
    ),
    "a function": (
        {"optimizer": from_torch(lambda named, lr: torch.optim.SGD(named, lr=lr), lr=0.1), "no_decay": ("bias",)},
        r"is built by a function, which makes its own parameter groups",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_groups_are_refused(case: str) -> None:
    fields, message = WRONG[case]
    with pytest.raises(UsageError, match=rf"^configuration 'A': .*{message}"):
        check_options(Configuration("A", **fields))


def test_groups_are_in_the_definition() -> None:
    configuration = Configuration("A", groups=GROUPS, no_decay=("norm",))
    check_options(configuration)
    assert describe_groups(configuration) == {
        "groups": {
            "*bias": {"weight_decay": 0.0}, "linear3.*": {"learning_rate": 0.1, "weight_decay": {"fixed": 0.7}},
        },
        "no_decay": ["norm"],
    }  # fmt: skip
    assert describe_groups(Configuration("A")) == {}
