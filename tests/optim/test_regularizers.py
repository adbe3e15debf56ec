"""Every regularizer: slow = fast, for one model and under vmap, also where layer rules would be wrong."""

import copy
import logging
import math
from typing import Any

import networks
import pytest
import references
import references_sharpness
import torch
from networks import NETWORKS, minibatch
from populations import populate
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_map

from hpo.errors import UsageError
from hpo.gradients.layer_rules import RULES, Rule
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.gradients.rule_check import rules_hold
from hpo.models import ResNet
from hpo.optim.regularizers import REGULARIZERS, gvr_over
from hpo.search_space import Range
from hpo.tree import Tree
from hpo.user_code.messages import warn_once

pytestmark = pytest.mark.usefixtures("one_thread")

Answer = tuple[dict[str, Tensor], dict[str, float]]


def settings(name: str) -> list[dict[str, float]]:
    """Both ends and the middle of every range, and the fixed values; one empty setting without hyperparameters."""
    chosen = {
        key: [entry.low, entry.middle(), entry.high] if isinstance(entry, Range) else [float(entry)] * 3
        for key, entry in REGULARIZERS[name].hyperparameters.items()
    }
    return [{key: values[i] for key, values in chosen.items()} for i in range(3)] if chosen else [{}]


def slow(
    module: nn.Module,
    name: str,
    hyper: dict[str, float],
    inputs: Tensor,
    labels: Tensor,
    memory: references.Memory | None = None,
) -> Answer:
    assert name in references.REGULARIZERS, f"regularizer {name!r} has no slow version in tests/support/references.py"
    batch = references.Batch(copy.deepcopy(module), inputs, labels, references.cross_entropy)
    return references.REGULARIZERS[name](batch, hyper, {} if memory is None else memory)


def fast(
    network: Network, name: str, params: Tree, state: Tree, hyper: Tree, inputs: Tensor, labels: Tensor
) -> tuple[Tree, Tree, Tree, Tensor]:
    """(gradient, state, scalars, task loss) by the package, for one model or inside vmap."""
    objective = Objective(network, references.cross_entropy, inputs, labels)
    regularizer = REGULARIZERS[name]
    gradient, state, scalars = regularizer.grads(objective, params, state, hyper)
    loss = objective.task_loss
    return gradient, state, dict(scalars), objective.loss(params) if loss is None else loss


def fast_alone(
    module: nn.Module, name: str, hyper: dict[str, float], inputs: Tensor, labels: Tensor
) -> tuple[Answer, Network]:
    module = copy.deepcopy(module)
    network = Network(module, inputs[0])
    params = {key: value.detach() for key, value in module.named_parameters()}
    tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in hyper.items()}
    state = REGULARIZERS[name].init(params)
    gradient, _, scalars, _ = fast(network, name, params, state, tensors, inputs, labels)
    return (gradient, {key: value.item() for key, value in scalars.items()}), network


def assert_same(actual: Answer, expected: Answer, relative: float = 1e-10) -> None:
    for part in (0, 1):
        assert actual[part].keys() == expected[part].keys()
        for key, value in expected[part].items():
            torch.testing.assert_close(
                actual[part][key],
                value,
                rtol=relative,
                atol=1e-2 * relative,
                msg=lambda words, key=key: f"{key}: {words}",
            )


def test_every_regularizer_has_a_slow_version() -> None:
    assert set(REGULARIZERS) == set(references.REGULARIZERS)


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("network_name", NETWORKS)
def test_slow_equals_fast_for_one_model(name: str, network_name: str) -> None:
    module = networks.build(network_name, seed=1)
    inputs, labels = minibatch(seed=2, views=REGULARIZERS[name].views)
    for hyper in settings(name):
        actual, network = fast_alone(module, name, hyper, inputs, labels)
        assert_same(actual, slow(module, name, hyper, inputs, labels))
        rules_hold(network)
        words = NETWORKS[network_name].obstacle
        assert (network.obstacle is None) == (not words), network.obstacle
        assert all(word in (network.obstacle or "") for word in words), network.obstacle


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("network_name", NETWORKS)
def test_slow_equals_fast_for_every_member_of_a_population(name: str, network_name: str) -> None:
    """Members differ in their weights, hyperparameters and minibatches."""
    hypers = [settings(name)[member % len(settings(name))] for member in range(3)]
    modules = [networks.build(network_name, seed=10 + member) for member in range(3)]
    batches = [minibatch(20 + member, views=REGULARIZERS[name].views) for member in range(3)]
    network = Network(copy.deepcopy(modules[0]), batches[0][0][0])
    params = {
        key: torch.stack([dict(module.named_parameters())[key].detach() for module in modules])
        for key, _ in modules[0].named_parameters()
    }
    hyper = {key: torch.tensor([each[key] for each in hypers], dtype=torch.float64) for key in hypers[0]}
    inputs, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))

    def one(params: Tree, hyper: Tree, inputs: Tensor, labels: Tensor) -> tuple[Tree, Tree, Tree, Tensor]:
        return fast(network, name, params, REGULARIZERS[name].init(params), hyper, inputs, labels)

    gradients, _, scalars, losses = vmap(one, randomness="error")(params, hyper, inputs, labels)
    for member, module in enumerate(modules):
        actual = (
            {key: leaf[member] for key, leaf in gradients.items()},
            {key: value[member].item() for key, value in scalars.items()},
        )
        assert_same(actual, slow(module, name, hypers[member], *batches[member]))
        loss = references.mean(references.Batch(module, *batches[member]).sample_losses())
        torch.testing.assert_close(losses[member], loss.detach(), rtol=1e-12, atol=0)


# Of members 0, 1 and 2.
OWN: dict[str, dict[str, list[float]]] = {
    "sgd": {"learning_rate": [0.1, 0.3, 0.03], "weight_decay": [1e-2, 0.0, 1e-4], "momentum": [0.9, 0.5, 0.0]},
    "adam": {
        "learning_rate": [1e-2, 3e-2, 1e-3],
        "weight_decay": [1e-2, 0.0, 1e-4],
        "beta1": [0.9, 0.8, 0.95],
        "beta2": [0.99, 0.999, 0.9],
        "epsilon": [1e-6, 1e-5, 1e-4],
    },
}
OWN["adamw"] = OWN["adam"]


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("optimizer", OWN)
@pytest.mark.parametrize("members", [1, 3])
def test_training_equals_the_authors_formula_under_pytorchs_optimizer(name: str, optimizer: str, members: int) -> None:
    """Five steps; every member has its own weights, minibatches, hyperparameters and state."""
    views = REGULARIZERS[name].views
    hypers = [
        settings(name)[member % len(settings(name))] | {key: values[member] for key, values in OWN[optimizer].items()}
        for member in range(members)
    ]
    modules = [networks.build("MLP", seed=30 + member) for member in range(members)]
    memories: list[references.Memory] = [{} for _ in modules]
    steppers = [
        references.OPTIMIZERS[optimizer](list(module.parameters()), hyper)
        for module, hyper in zip(modules, hypers, strict=True)
    ]
    population = populate(copy.deepcopy(modules), REGULARIZERS[name], hypers, optimizer)
    for number in range(5):
        samples = 40 if views == 2 else 8  # so that GVR's 32 are not all
        batches = [minibatch(10 * number + member, samples, views) for member in range(members)]
        scalars = population.step(*(torch.stack(parts) for parts in zip(*batches, strict=True)))
        for member, module in enumerate(modules):
            gradient, expected = slow(module, name, hypers[member], *batches[member], memories[member])
            for key, parameter in module.named_parameters():
                parameter.grad = gradient[key].detach()
            steppers[member].step()
            params = {key: leaf[member] for key, leaf in population.params.items()}
            reported = {key: scalars[f"aux/{key}"][member].item() for key in expected}
            weights = {key: parameter.detach() for key, parameter in module.named_parameters()}
            assert_same((params, reported), (weights, expected), 1e-9)


# The size of the loss at which the epsilon added to a norm is as large as the norm.
EPSILONS = {"sam": 1e-12, "asam": 1e-12, "vasso": 1e-7, "gam": 1e-12, "gam_paper": 1e-12, "gam_adaptive": 1e-12}
EPSILONS |= {"gnvr": 1e-4, "clip_global": 1e-6, "clip_sample": 1e-8, "rogc": 1e-8}


@pytest.mark.parametrize("name", EPSILONS)
def test_epsilons_are_those_of_the_sources(name: str) -> None:
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return EPSILONS[name] * references.cross_entropy(outputs, labels)

    module = networks.build("MLP", seed=1)
    inputs, labels = minibatch(seed=2)
    hyper = settings(name)[1] | ({"clip": EPSILONS[name]} if "clip" in settings(name)[1] else {})
    expected, _ = references.REGULARIZERS[name](references.Batch(module, inputs, labels, loss), hyper, {})
    params = {key: value.detach() for key, value in module.named_parameters()}
    tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in hyper.items()}
    objective = Objective(Network(copy.deepcopy(module), inputs[0]), loss, inputs, labels)
    actual, _, _ = REGULARIZERS[name].grads(objective, params, REGULARIZERS[name].init(params), tensors)
    for key, leaf in expected.items():
        torch.testing.assert_close(actual[key] / EPSILONS[name], leaf / EPSILONS[name], rtol=1e-7, atol=1e-9)


def test_a_clipping_threshold_is_pytorchs() -> None:
    module = networks.build("MLP", seed=5)
    inputs, labels = minibatch(seed=6)
    (actual, _), _ = fast_alone(module, "clip_global", {"clip": 1e-3}, inputs, labels)
    torch.nn.functional.cross_entropy(module(inputs[0]), labels).backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1e-3)
    for key, parameter in module.named_parameters():
        torch.testing.assert_close(actual[key], parameter.grad, rtol=1e-12, atol=0)


@pytest.mark.parametrize("samples", [8, 32, 33, 80])
@pytest.mark.parametrize("name", ["gvr", "gvr_independent"])
def test_gvrs_subsets(name: str, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 samples of each view in separate passes, after those of the whole batch; `gvr` uses the same 32."""
    seen: list[int] = []
    original = Network.run

    def run(network: Network, params: Tree, inputs: Tensor, *others: Any) -> Any:
        seen.append(len(inputs))
        return original(network, params, inputs, *others)

    monkeypatch.setattr(Network, "run", run)
    module = networks.build("MLP", seed=1)
    inputs, labels = minibatch(seed=2, samples=samples, views=2)
    actual, _ = fast_alone(module, name, {"alpha": 1.0}, inputs, labels)
    assert seen == [samples, samples, min(samples, 32), min(samples, 32)]
    assert_same(actual, slow(module, name, {"alpha": 1.0}, inputs, labels))
    swapped, _ = fast_alone(module, name, {"alpha": 1.0}, inputs.flip(0), labels)
    assert (swapped[1] == pytest.approx(actual[1])) == (samples <= 32 or name == "gvr")
    equal, _ = fast_alone(module, name, {"alpha": 1.0}, inputs[[0, 0]], labels)
    assert (equal[1]["penalty"] == 0) == (samples <= 32 or name == "gvr"), (
        "with equal views only sampling makes a difference"
    )


def test_gvr_where_the_last_layer_is_tied_to_another() -> None:
    """The last layer's weight counts although its name is that of the first."""
    module = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6, bias=False)).double()
    module[2].weight = module[0].weight
    inputs, labels = minibatch(seed=2, views=2)
    actual, _ = fast_alone(module, "gvr", {"alpha": 1.0}, inputs, labels)
    expected = slow(module, "gvr", {"alpha": 1.0}, inputs, labels)
    assert expected[1]["penalty"] > 1e-3
    assert_same(actual, expected)


def test_gvr_over_chosen_layers() -> None:
    """All layers: the distance of the whole gradients."""
    module = networks.build("MLP", seed=1)
    network = Network(copy.deepcopy(module), minibatch(0)[0][0])
    inputs, labels = minibatch(seed=2, views=2)
    params = {key: value.detach() for key, value in module.named_parameters()}
    hyper = {"alpha": torch.tensor(1.0, dtype=torch.float64)}

    def penalty(*layers: str) -> float:
        objective = Objective(network, references.cross_entropy, inputs, labels)
        return gvr_over(layers).grads(objective, params, {}, hyper)[2]["penalty"].item()

    batches = [references.Batch(module, view[None], labels) for view in inputs]
    first, second = (batch.mean_gradient() for batch in batches)
    square = {key: (first[key] - second[key]).square().sum().item() for key in first}
    assert penalty() == penalty("linear3") == pytest.approx(square["linear3.weight"] + square["linear3.bias"])
    assert penalty("linear1", "linear2", "linear3") == pytest.approx(sum(square.values()))
    assert gvr_over().name == "gvr"
    assert gvr_over("linear1").name == "gvr(linear1)"
    assert gvr_over(("linear1", "linear3"), 16).name == "gvr(linear1, linear3, 16 samples)"
    for absent in ("linear9", "relu1"):
        with pytest.raises(UsageError, match=f"no layer '{absent}' with parameters; choose from .*'linear1'"):
            penalty(absent)


AUTHORS_LAYERS = ("blocks.6", "blocks.7", "linear")


def test_gvr_of_a_resnet_over_its_authors_layers() -> None:
    """Last stage and classifier, with BatchNorm; as a population and each member alone."""
    modules = []
    for seed in range(3):
        torch.manual_seed(seed)
        modules.append(ResNet(classes=3, width=2)().double().train())
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 2, 40, 3, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (3, 40), generator=generator)
    alphas = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)
    network = Network(copy.deepcopy(modules[0]), inputs[0, 0])
    leaves = [dict(module.named_parameters()) for module in modules]
    params = {key: torch.stack([each[key].detach() for each in leaves]) for key in leaves[0]}
    owned = [dict(module.named_buffers()) for module in modules]
    buffers = {key: torch.stack([each[key] for each in owned]) for key in owned[0]}
    chosen = gvr_over(AUTHORS_LAYERS)

    def one(params: Tree, buffers: Tree, inputs: Tensor, labels: Tensor, alpha: Tensor) -> tuple[Tree, Any, Tree]:
        objective = Objective(network, references.cross_entropy, inputs, labels, buffers)
        gradient, _, scalars = chosen.grads(objective, params, {}, {"alpha": alpha})
        return gradient, scalars["penalty"], objective.buffers

    lifted = vmap(one)(params, buffers, inputs, labels, alphas)
    for member, module in enumerate(modules):
        given = [{key: leaf[member] for key, leaf in tree.items()} for tree in (params, buffers)]
        solo = one(*given, inputs[member], labels[member], alphas[member])
        batch = references.Batch(copy.deepcopy(module), inputs[member], labels[member], together=True)
        subset = batch.subset(0, 32)
        names = [key for key in given[0] if key.startswith(("blocks.6.", "blocks.7.", "linear."))]
        assert len(names) == 17
        hyper = {"alpha": alphas[member].item()}
        gradient, reported = references_sharpness.gvr_over(batch, subset, subset, names, hyper)
        with torch.no_grad():
            module(inputs[member, 0])
        for actual in (tree_map(lambda leaf, member=member: leaf[member], lifted), solo):
            assert_same((actual[0], {"penalty": actual[1].item()}), (gradient, reported))
            assert_same((actual[2], {}), (dict(module.named_buffers()), {}))


def wrong(rule: Rule, function: str) -> Rule:
    """The rule with an error in one of its functions."""
    if function == "square_norms":  # the bias forgotten
        return rule._replace(square_norms=lambda _, a, d: d.square().sum(-1) * a.square().sum(-1))
    if function == "weighted_grad":  # weighted twice
        return rule._replace(weighted_grad=lambda m, a, d, w: rule.weighted_grad(m, a, d, w**2))
    return rule._replace(sign_mean=lambda m, a, d: rule.sign_mean(m, a.abs(), d))


@pytest.mark.parametrize("function", ["square_norms", "weighted_grad", "sign_mean"])
def test_a_wrong_rule_is_not_used(
    function: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(RULES, nn.Linear, wrong(RULES[nn.Linear], function))
    module = networks.build("MLP", seed=1)
    inputs, labels = minibatch(seed=2, views=2)
    for name in REGULARIZERS:
        for hyper in settings(name):
            caplog.clear()
            warn_once.cache_clear()
            with caplog.at_level(logging.WARNING):
                actual, network = fast_alone(module, name, hyper, inputs, labels)
            assert_same(actual, slow(module, name, hyper, inputs, labels))
            assert not rules_hold(network)
            assert "'linear1'" in (network.obstacle or "")
    assert "linear1" in caplog.text  # rogc, the last regularizer, uses per-sample norms


@pytest.mark.parametrize("name", ["gnvr", "sgsc", "clip_sample", "rogc"])
def test_the_check_sees_through_a_last_layer_of_zeros(name: str) -> None:
    """Behind it all outputs and gradients are 0 at first, but not for long."""
    module, inputs, labels = networks.build("borrowed weight", seed=1), *minibatch(seed=2)
    initial = copy.deepcopy(module)
    for parameter in initial.last.parameters():  # type: ignore[union-attr]
        nn.init.zeros_(parameter)
    network = Network(initial, inputs[0])
    assert not rules_hold(network) and "'lender' differs" in (network.obstacle or "")
    params = {key: value.detach() for key, value in module.named_parameters()}
    for hyper in settings(name):
        tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in hyper.items()}
        gradient, _, scalars, _ = fast(network, name, params, {}, tensors, inputs, labels)
        actual = gradient, {key: value.item() for key, value in scalars.items()}
        assert_same(actual, slow(module, name, hyper, inputs, labels))


def test_the_check_accepts_correct_rules_on_large_and_small_inputs() -> None:
    module = networks.build("MLP", seed=1)
    for size in (1e-6, 1.0, 1e6):
        network = Network(copy.deepcopy(module), minibatch(seed=2)[0][0] * size)
        assert rules_hold(network), network.obstacle


class Attention(nn.Module):
    """Queries, keys and values of one layer; its bias of the keys changes no weight of the softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.last = nn.Linear(8, 24), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        queries, keys, values = self.qkv(inputs).chunk(3, -1)
        return self.last(((queries @ keys.mT).softmax(-1) @ values).tanh().mean(1))


def test_the_check_accepts_correct_rules_where_a_gradient_is_rounding() -> None:
    torch.manual_seed(0)
    network = Network(Attention(), torch.randn(4, 8, 8))
    assert rules_hold(network), network.obstacle


def test_a_check_without_enough_memory_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    network = Network(networks.build("MLP", seed=1), minibatch(seed=2)[0][0])
    with monkeypatch.context() as patch:
        patch.setattr(Network, "run_with_probes", full)
        with pytest.raises(torch.OutOfMemoryError):
            rules_hold(network)
    assert rules_hold(network), network.obstacle


class Projected(nn.Module):
    """A float32 network with a buffer, and with or without a cast that fails in float64."""

    def __init__(self, cast: bool) -> None:
        super().__init__()
        self.register_buffer("directions", torch.linspace(-1, 1, 24).reshape(6, 4))
        self.last = nn.Linear(4, 3)
        self.cast = cast

    def forward(self, inputs: Tensor) -> Tensor:
        projected = inputs @ self.directions
        return self.last(projected.float() if self.cast else projected)


@pytest.mark.parametrize("cast", [False, True])
def test_a_float32_network_with_a_buffer(cast: bool) -> None:
    """The check casts buffers to float64; where the network fails in float64, per-sample gradients are used."""
    module = Projected(cast)
    inputs, labels = minibatch(seed=2, views=2)
    inputs = inputs.float()
    network = Network(copy.deepcopy(module), inputs[0])
    assert rules_hold(network) is not cast
    assert ("float64" in (network.obstacle or "")) == cast
    for name in REGULARIZERS:
        (gradient, _), _ = fast_alone(module, name, settings(name)[0], inputs, labels)
        expected, _ = slow(module, name, settings(name)[0], inputs, labels)
        assert_same((gradient, {}), (expected, {}), 1e-4)


@pytest.mark.parametrize(
    ("name", "hyper", "relative"),
    [
        ("gnvr", {"lambda": 0.0}, 1e-12),
        ("sgsc", {"gamma": 0.0}, 1e-12),
        ("clip_global", {"clip": 1e9}, 1e-15),
        ("clip_sample", {"clip": 1e9}, 1e-12),
        ("rogc", {"k": 1e9}, 1e-12),
        ("sam", {"rho": 0.0}, 1e-15),
        ("sam", {"rho": 1e-9}, 1e-6),
        ("asam", {"rho": 0.0}, 1e-15),
        ("vasso", {"rho": 0.0, "theta": 0.5}, 1e-15),
    ],
)
@pytest.mark.parametrize("network_name", ["MLP", "tied weights"])
def test_a_regularizer_that_is_switched_off_equals_none(
    name: str, hyper: dict[str, float], relative: float, network_name: str
) -> None:
    module = networks.build(network_name, seed=3)
    inputs, labels = minibatch(seed=4)
    (gradient, scalars), _ = fast_alone(module, name, hyper, inputs, labels)
    (expected, _), _ = fast_alone(module, "none", {}, inputs, labels)
    assert_same((gradient, {}), (expected, {}), relative)
    assert scalars.get("penalty", 0) == 0
    assert scalars.get("clipped", 0) == 0


def test_sgsc_where_the_signs_cancel() -> None:
    """Two equal inputs with opposite labels: every mean sign is 0. γ = 0 keeps g (0⁰ = 1), γ = 1 gives 0."""
    module = nn.Linear(2, 2).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.3, -0.2], [0.1, 0.5]]))
        module.bias.copy_(torch.tensor([0.4, -0.1]))
    inputs = torch.tensor([[[1.0, -2.0], [1.0, -2.0]]], dtype=torch.float64)
    labels = torch.tensor([0, 1])
    plain, _ = slow(module, "none", {}, inputs, labels)
    assert plain["weight"].abs().min() > 0.1
    (kept, scalars), _ = fast_alone(module, "sgsc", {"gamma": 0.0}, inputs, labels)
    assert scalars == {"consistency": 0.0}
    assert_same((kept, {}), (plain, {}), 1e-12)
    (gone, _), _ = fast_alone(module, "sgsc", {"gamma": 1.0}, inputs, labels)
    assert all(leaf.eq(0).all() for leaf in gone.values())


def test_a_zero_gradient_stays_zero() -> None:
    """Saturated samples have no gradient; the divisions by its norm must not make NaN of it, in either precision."""
    for dtype in (torch.float32, torch.float64):
        module = nn.Linear(2, 2, bias=False).to(dtype)
        with torch.no_grad():
            module.weight.copy_(torch.tensor([[1e4, 0.0], [-1e4, 0.0]]))
        inputs, labels = torch.ones(2, 4, 2, dtype=dtype), torch.zeros(4, dtype=torch.int64)
        for name in REGULARIZERS:
            (gradient, scalars), _ = fast_alone(module, name, settings(name)[0], inputs, labels)
            assert all(leaf.eq(0).all() for leaf in gradient.values()), name
            assert all(math.isfinite(value) for value in scalars.values()), name


def test_members_with_a_zero_gradient_stay_finite_over_steps() -> None:
    """A zero gradient at first, then none, then again: a running direction may be zero."""
    module = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1e4, 0.0], [-1e4, 0.0]]))
    params = {"weight": module.weight.detach()}
    right, wrong = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    inputs = torch.ones(2, 4, 2, dtype=torch.float64)
    for name, regularizer in REGULARIZERS.items():
        hyper = {key: torch.tensor(value, dtype=torch.float64) for key, value in settings(name)[-1].items()}
        state = regularizer.init(params)
        for labels in (right, wrong, right):
            network = Network(copy.deepcopy(module), inputs[0])
            gradient, state, _, _ = fast(network, name, params, state, hyper, inputs, labels)
            assert gradient["weight"].isfinite().all(), name
            assert gradient["weight"].eq(0).all() == (labels is right), name
