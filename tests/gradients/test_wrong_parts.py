"""Wrong networks, losses and optimizers are refused in one sentence, for one model and several."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import CLASSES, FEATURES, minibatch
from small_runs import NETWORK, SIZES, assert_refused, assert_same_losses, assert_trains, run
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hpo.errors import UsageError
from hpo.gradients.network import Network
from hpo.gradients.returns import Cache
from hpo.gradients.rule_check import check_unmixed, rules_hold
from hpo.models import MLP
from hpo.models.losses import cross_entropy
from hpo.optim.optimizers import Optimizer, per_model
from hpo.optim.regularizers import REGULARIZERS
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

SINGLE_SAMPLES = ["gnvr", "sgsc", "clip_sample", "rogc"]


class Between(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second, self.function = nn.Linear(FEATURES, 4), nn.Linear(4, CLASSES), function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.function(self.first(inputs)))


class Long(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.long()


class Attentive(nn.Module):
    """Attention over three pairs of features, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 1, dropout=0.5, batch_first=True)
        self.last = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        pairs = inputs.reshape(len(inputs), -1, 2)
        return self.last(self.attention(pairs, pairs, pairs)[0].flatten(1))


def linear(*others: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, CLASSES), *others)


MODELS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "no module": (lambda: None, ("model is None",)),
    "no parameters": (nn.Identity, ("no parameters",)),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(CLASSES)), ("'0.weight'", "lazy")),
    "frozen": (lambda: NETWORK().requires_grad_(False), ("'linear1.weight'", "gradient")),
    "an average of all batches": (
        lambda: linear(nn.BatchNorm1d(CLASSES, momentum=None)),
        ("'1' (BatchNorm1d)", "momentum=None"),
    ),
    "samples of another width": (MLP((FEATURES - 1, 4, CLASSES)), ("'linear1' (Linear)", "(6,)", "4x6 and 5x4")),
    "samples that are images": (
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(FEATURES, CLASSES)),
        ("'0' (BatchNorm2d)", "(6,)", "expected 4D input"),
    ),
    "two outputs": (lambda: nn.Sequential(nn.LSTM(FEATURES, CLASSES)), ("the network returns a tuple",)),
    "classes instead of outputs": (lambda: linear(Long()), ("the network returns", "int64", "(4, 3)")),
    "samples run together": (lambda: linear(nn.Flatten(0), nn.Unflatten(0, (-1, 1))), ("(12, 1)", "(4, 6)")),
    "samples changed in place": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(FEATURES, CLASSES)),
        ("'0' (ReLU)", "in place"),
    ),
}  # fmt: skip


@SIZES
@pytest.mark.parametrize("case", MODELS)
def test_a_network_that_cannot_be_trained(case: str, members: int) -> None:
    model, fragments = MODELS[case]
    assert_refused(members, *fragments, model=model)


def test_networks_that_differ() -> None:
    widths = iter([4, 5])
    assert_refused(2, "'linear1.weight'", "(4, 6)", "(5, 6)", model=lambda: MLP((FEATURES, next(widths), CLASSES))())


def test_an_error_in_the_users_forward_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match=r"^shape '.5, -1.' is invalid for input of size 16"):
        run(1, model=lambda: Between(lambda hidden: hidden.reshape(5, -1)))


RANDOM_NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "functional dropout": (lambda: Between(F.dropout), "the network"),
    "noise": (lambda: Between(lambda hidden: hidden + torch.randn_like(hidden)), "the network"),
    "attention": (Attentive, "layer 'attention' (MultiheadAttention)"),
}


@SIZES
@pytest.mark.parametrize("case", RANDOM_NETWORKS)
@pytest.mark.parametrize("name", ["none", "clip_sample"])
def test_a_network_that_draws_random_numbers(name: str, case: str, members: int) -> None:
    """Also for one model, where PyTorch itself would draw."""
    model, code = RANDOM_NETWORKS[case]
    before = torch.get_rng_state()
    assert_refused(members, f"{code} draws random numbers", model=model, regularizer=REGULARIZERS[name])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("the network", {"model": lambda: Between(lambda hidden: hidden / hidden.max().item())}),
        ("the loss", {"loss": lambda outputs, labels: cross_entropy(outputs, labels) * outputs.max().item()}),
        ("the loss", {"loss": lambda outputs, labels: (outputs - F.one_hot(labels)).square().sum(1)}),
    ],
)
def test_values_that_are_read_are_refused_for_several_models(code: str, parts: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match=rf"^{code} reads a tensor's value .*torch\.arange"):
        run(3, **parts)


@SIZES
@pytest.mark.parametrize("name", ["none", "gnvr"])
def test_one_hot_rows_in_a_loss(name: str, members: int) -> None:
    def by_one_hot(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs - F.one_hot(labels, CLASSES)).square().sum(1)

    def by_hand(outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.square().sum(1) - 2 * outputs.gather(1, labels[:, None])[:, 0] + 1

    results = [run(members, loss=loss, regularizer=REGULARIZERS[name])[1] for loss in (by_one_hot, by_hand)]
    assert_same_losses(*results, rtol=1e-4, atol=1e-5)


def test_a_shape_that_follows_from_values_is_no_constant_of_the_trace() -> None:
    """The number of positive entries changes from step to step; a single model may depend on it."""

    def doubled_by_mask(hidden: Tensor) -> Tensor:
        hidden = hidden.clone()
        mask = hidden > 0
        hidden[mask] = hidden[mask] * 2
        return hidden

    functions = (doubled_by_mask, lambda hidden: torch.where(hidden > 0, hidden * 2, hidden))
    results = [run(1, model=lambda function=function: Between(function), steps=8)[1] for function in functions]
    assert_same_losses(*results, rtol=1e-5, atol=1e-6)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return inputs * inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * ctx.saved_tensors[0] * gradient


UNLIFTED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a function with ctx": (Square.apply, "setup_context"),
    "recomputed": (lambda x: checkpoint(torch.tanh, x, use_reentrant=False), "torch.utils.checkpoint"),
}


@SIZES
@pytest.mark.parametrize("name", ["none", "gnvr"])
@pytest.mark.parametrize("case", UNLIFTED)
def test_what_torch_func_cannot_lift(case: str, name: str, members: int) -> None:
    function, fragment = UNLIFTED[case]
    parts = {"model": lambda: Between(function), "regularizer": REGULARIZERS[name]}
    assert_refused(members, "the network uses", fragment, **parts)


class Counting(nn.Module):
    """A running mean in a buffer, assigned or changed in place."""

    def __init__(self, assigned: bool) -> None:
        super().__init__()
        self.linear, self.assigned = nn.Linear(FEATURES, CLASSES), assigned
        self.register_buffer("running", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and self.assigned:
            self.running = self.running / 2 + inputs.mean()
        elif self.training:
            self.running.div_(2).add_(inputs.mean())
        return self.linear(inputs) + self.running


@SIZES
@pytest.mark.parametrize("assigned", [True, False])
def test_a_buffer_may_be_assigned_or_changed_in_place(assigned: bool, members: int) -> None:
    """By hand: the mean of each step's inputs, halved with every step after it."""
    expected = torch.zeros(members)
    for number in range(4):
        expected = expected / 2 + torch.stack([minibatch(10 * number + k)[0].mean() for k in range(members)]).float()
    population, _ = run(members, model=lambda: Counting(assigned))
    torch.testing.assert_close(population.buffers["running"], expected)


class Cast(nn.Module):
    """Does not work in float64, one way or another; optionally subtracts the batch's mean from every sample."""

    def __init__(self, mixes: bool, inside: bool) -> None:
        super().__init__()
        self.linear, self.mixes, self.inside = nn.Linear(FEATURES, CLASSES), mixes, inside

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = (inputs - inputs.mean(0) if self.mixes else inputs).float()
        if self.inside:
            return F.linear(inputs, self.linear.weight.float(), self.linear.bias.float())
        return self.linear(inputs)


@SIZES
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", SINGLE_SAMPLES)
def test_a_network_that_mixes_samples_and_refuses_float64(name: str, inside: bool, members: int) -> None:
    words = (f"regularizer {name!r}", "the network mixes the samples")
    assert_refused(members, *words, model=lambda: Cast(True, inside), regularizer=REGULARIZERS[name])
    assert_trains(members, model=lambda: Cast(False, inside), regularizer=REGULARIZERS[name])


@pytest.mark.parametrize("bfloat16", [False, True])
def test_rounding_of_float32_is_no_mixing(bfloat16: bool) -> None:
    """A wide and deep network, whose sums are added in another order for one sample than for four."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [layer for _ in range(8) for layer in (nn.Linear(512, 512), nn.ReLU())]
        network = Network(nn.Sequential(Cast(False, False), nn.Linear(CLASSES, 512), *layers), torch.randn(4, FEATURES))
    network.bfloat16 = bfloat16
    assert not rules_hold(network)
    assert "float64" in (network.obstacle or "")


LOSSES: dict[str, tuple[Any, str]] = {
    "the mean": (F.cross_entropy, "float32 and shape ()"),
    "a loss for every output": (lambda outputs, _: -outputs.log_softmax(-1), "float32 and shape ({}, 3)"),
    "a column": (lambda outputs, labels: cross_entropy(outputs, labels)[:, None], "float32 and shape ({}, 1)"),
    "counts": (lambda outputs, labels: (outputs.argmax(-1) != labels).long(), "int64 and shape ({},)"),
    "a number": (lambda *_: 1.0, "1.0"),
}


@SIZES
@pytest.mark.parametrize("name", ["none", "gnvr"])
@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_that_is_not_one_number_a_sample(case: str, name: str, members: int) -> None:
    loss, words = LOSSES[case]
    samples = 8 if name == "none" else 4  # the layer rules are checked on four samples first
    words = f"{words} for {{}} samples".format(*[samples] * 2)
    assert_refused(members, "the loss gives", words, loss=loss, regularizer=REGULARIZERS[name])


@pytest.mark.parametrize("case", LOSSES)
def test_evaluation_refuses_such_a_loss(case: str) -> None:
    population, _ = run(3, steps=0)
    wrong, _ = run(3, loss=LOSSES[case][0], steps=0)
    inputs, labels = torch.randn(8, FEATURES), torch.arange(24).view(3, 8) % CLASSES
    arguments = inputs, torch.arange(8).expand(3, -1), torch.ones(3, 8), labels
    assert population.evaluate(*arguments)[0]["loss"].shape == (3,)
    with pytest.raises(UsageError, match=r"the loss gives .* for 8 samples"):
        wrong.evaluate(*arguments)


@SIZES
def test_a_loss_that_cannot_be_called(members: int) -> None:
    assert_refused(members, "the loss is called as loss(outputs, labels)", loss=lambda outputs: outputs.sum(1))
    assert_refused(members, "the loss is the class CrossEntropyLoss", loss=nn.CrossEntropyLoss)
    assert_trains(members, loss=nn.CrossEntropyLoss(reduction="none"))


def behind(first: nn.Module, zeros: bool) -> nn.Module:
    """A layer and a classifier, which is often initialised with zeros."""
    last = nn.Linear(FEATURES, CLASSES)
    for parameter in last.parameters() if zeros else ():
        nn.init.zeros_(parameter)
    return nn.Sequential(first, nn.Tanh(), last)


class Centred(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs - inputs.mean(0))


def of_centred(outputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(outputs - outputs.mean(0), labels)


@SIZES
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("part", ["loss", "network"])
def test_mixing_of_samples_is_refused_by_regularizers_of_single_samples(
    part: str, name: str, zeros: bool, members: int
) -> None:
    layer = nn.Linear if part == "loss" else Centred
    parts: dict[str, Any] = {"model": lambda: behind(layer(FEATURES, FEATURES), zeros)}
    parts |= {"loss": of_centred} if part == "loss" else {}
    parts |= {"regularizer": REGULARIZERS[name]}
    if name in SINGLE_SAMPLES:
        assert_refused(members, f"regularizer {name!r}: the {part} mixes the samples", **parts)
    else:
        assert_trains(members, **parts)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("part", ["loss", "network"])
def test_several_processes_cannot_share_what_mixes_samples(part: str, zeros: bool) -> None:
    layer = nn.Linear if part == "loss" else Centred
    network = Network(behind(layer(FEATURES, FEATURES), zeros), minibatch(0)[0][0].float())
    with pytest.raises(UsageError, match=f"^the {part} mixes the samples"):
        check_unmixed(network, of_centred if part == "loss" else cross_entropy, torch.zeros(8, dtype=torch.int64))


def descent(grads: Tree, _: Any, params: Tree, hyper: Tree) -> Tree:
    """A step of one model down the gradient."""
    return {name: leaf - hyper["learning_rate"] * grads[name] for name, leaf in params.items()}


Update = Callable[[Tree, Any, Tree, Tree], Any]
UPDATES: dict[str, tuple[Update, tuple[str, ...]]] = {
    "a parameter less": (
        lambda g, s, p, h: ({name: leaf for name, leaf in descent(g, s, p, h).items() if name != "linear2.bias"}, s),
        ("lacks", "'linear2.bias'"),
    ),
    "a parameter less in the same dict": (
        lambda _, s, p, __: (p.pop("linear2.bias"), (p, s))[1],
        ("lacks", "'linear2.bias'"),
    ),
    "a parameter more": (
        lambda g, s, p, h: (descent(g, s, p, h) | {"more": p["linear2.bias"]}, s),
        ("additional", "'more'"),
    ),
    "numbers": (lambda g, s, p, h: (descent(g, s, p, h) | {"linear2.bias": 0.0}, s), ("'linear2.bias'", "is 0.0")),
    "another dtype": (
        lambda g, s, p, h: ({name: leaf.double() for name, leaf in descent(g, s, p, h).items()}, s),
        ("'linear1.weight'", "float64", "float32"),
    ),
    "only the parameters": (descent, ("update returns a dict", "(params, state)")),
    "nothing": (lambda *_: None, ("update returns nothing", "(params, state)")),
}


@SIZES
@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize("case", UPDATES)
def test_an_update_that_gives_no_parameters(case: str, lifted: bool, members: int) -> None:
    update, fragments = UPDATES[case]

    def on_the_stack(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
        return update(grads, state, params, hyper | {"learning_rate": 0.1})

    optimizer = per_model("own", dict, update, {}) if lifted else Optimizer("own", dict, on_the_stack, {})
    assert_refused(members, "optimizer 'own': its ", *fragments, optimizer=optimizer)


@SIZES
def test_an_update_of_another_shape(members: int) -> None:
    def update(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
        return {name: leaf.sum(-1) for name, leaf in descent(grads, state, params, hyper).items()}, state

    optimizer = per_model("own", dict, update, {})
    assert_refused(members, "optimizer 'own'", "'linear1.weight'", "(5,)", "(5, 6)", optimizer=optimizer)


@SIZES
def test_parameters_in_another_order_are_accepted(members: int) -> None:
    def reverse(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
        return dict(reversed(descent(grads, state, params, hyper).items())), state

    def straight(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
        return descent(grads, state, params, hyper), state

    (one, _), (other, _) = (run(members, optimizer=per_model("own", dict, way, {})) for way in (reverse, straight))
    assert all(traced._trace is not None for traced in one._traced.values())
    torch.testing.assert_close(one.params, other.params)
    assert list(one.params) == list(other.params)


LIFTED_STATES: dict[str, tuple[Any, Update, tuple[str, ...]]] = {
    "a number": (
        {"steps": 0},
        lambda g, s, p, h: (descent(g, s, p, h), {"steps": s["steps"] + 1}),
        ("'steps'", "is 0", "torch.tensor(0.0)"),
    ),
    "none": (None, lambda g, s, p, h: (descent(g, s, p, h), s), ("its state is None", "{}")),
    "a leaf more": ({}, lambda g, s, p, h: (descent(g, s, p, h), {"last": g}), ("additional", "'last'")),
}


@SIZES
@pytest.mark.parametrize("case", LIFTED_STATES)
def test_the_state_of_a_lifted_optimizer_keeps_its_leaves(case: str, members: int) -> None:
    state, update, fragments = LIFTED_STATES[case]
    optimizer = per_model("own", lambda _: state, update, {})
    assert_refused(members, "optimizer 'own': its state", *fragments, optimizer=optimizer)


STACKED_STATES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "a number": ({"steps": 0.0}, ("'steps'", "is 0.0", "torch.tensor(0.0)")),
    "one for all models": ({"count": {"steps": torch.zeros(())}}, ("'count.steps'", "shape ()", "(3 here)")),
    "a number in a list": ({"_rows": [torch.zeros(3), 1]}, ("'_rows.1'", "is 1")),
    "one for all models in a list": ({"two": [torch.zeros(3), torch.zeros(2)]}, ("'two.1'", "shape (2,)")),
}


@pytest.mark.parametrize("when", ["from the start", "after a step"])
@pytest.mark.parametrize("case", STACKED_STATES)
def test_the_state_of_an_optimizer_on_the_stack_consists_of_tensors(case: str, when: str) -> None:
    state, fragments = STACKED_STATES[case]

    def update(_: Tree, before: Any, params: Tree, __: Tree) -> Any:
        return params, state if when == "after a step" else before

    optimizer = Optimizer("own", lambda _: state if when == "from the start" else {}, update, {})
    assert_refused(3, "optimizer 'own'", *fragments, optimizer=optimizer)


@SIZES
def test_an_optimizers_state_may_be_nested(members: int) -> None:
    """Dicts, lists and tuples with any names, and caches with any content."""
    cached: list[Any] = []

    def init(params: Tree) -> Any:
        leaf = torch.zeros_like(next(iter(params.values())))
        return {"a": {"_rows": leaf, "list": [leaf, (leaf, {"b": leaf})]}, "cache": Cache([1, "a"])}

    def update(grads: Tree, state: Any, params: Tree, _: Tree) -> Any:
        if "cache" in state["a"]:
            cached.append(state["a"]["cache"].content)
        one, (two, three) = state["a"]["list"]
        nested = {"_rows": state["a"]["_rows"] + 1, "list": [one + 1, (two + 2, {"b": three["b"] + 3})]}
        return params, {"a": nested | {"cache": Cache(grads)}}

    population, _ = run(members, optimizer=Optimizer("own", init, update, {}))
    steps = population.optimizer_state["a"]["_rows"].flatten()[0]
    assert steps > 1 and cached and set(population.optimizer_state["a"]) == {"_rows", "list"}
    assert (population.optimizer_state["a"]["list"][1][1]["b"] == 3 * steps).all()
    saved = population.states()
    population.restore(saved)
    assert torch.equal(
        population.optimizer_state["a"]["list"][0], steps.expand_as(population.optimizer_state["a"]["list"][0])
    )


@SIZES
def test_what_else_an_optimizer_may_not_do(members: int) -> None:
    def random(_: Tree, state: Any, params: Tree, __: Tree) -> Any:
        return {name: leaf + torch.randn_like(leaf) for name, leaf in params.items()}, state

    def reads(grads: Tree, state: Any, params: Tree, __: Tree) -> Any:
        return (grads if grads["linear2.bias"].sum() > 0 else params), state

    def misspelt(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
        return {name: leaf - hyper["lr"] * grads[name] for name, leaf in params.items()}, state

    def two_arguments(one: Any, two: Any) -> Any:
        return one, two

    assert_refused(members, "optimizer 'own' draws random numbers", optimizer=per_model("own", dict, random, {}))
    words = "optimizer 'own' is called as update(grads, state, params, hyper)"
    assert_refused(members, words, optimizer=per_model("own", dict, two_arguments, {}))
    with pytest.raises(RuntimeError, match=r"^optimizer 'own' reads a tensor's value"):
        run(members, optimizer=per_model("own", dict, reads, {}))
    for optimizer in (per_model("own", dict, misspelt, {}), Optimizer("own", dict, misspelt, {})):
        with pytest.raises(KeyError, match="no hyperparameter 'lr'; there are 'learning_rate', "):
            run(members, optimizer=optimizer)
