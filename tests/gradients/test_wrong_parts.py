"""Wrong networks, losses and optimizers: one sentence that says what to write instead, for one model and several."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import CLASSES, FEATURES, minibatch
from small_runs import NETWORK, SIZES, run, said
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hpo.errors import UsageError
from hpo.gradients.network import Network
from hpo.gradients.rule_check import rules_hold
from hpo.models import MLP
from hpo.models.losses import cross_entropy
from hpo.optim.optimizers import Optimizer, per_model
from hpo.optim.regularizers import REGULARIZERS
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

SINGLE_SAMPLES = ["gnvr", "sgsc", "clip_sample", "rogc"]


class Between(nn.Module):
    """Two layers, and something between them."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second, self.function = nn.Linear(FEATURES, 4), nn.Linear(4, CLASSES), function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.function(self.first(inputs)))


class Whole(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.long()


class Attentive(nn.Module):
    """Attention over three pairs of features."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 1, dropout=dropout, batch_first=True)
        self.last = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        pairs = inputs.reshape(len(inputs), -1, 2)
        return self.last(self.attention(pairs, pairs, pairs)[0].flatten(1))


class Recurrent(nn.Module):
    """An LSTM over three pairs of features."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.last = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.cells(inputs.reshape(len(inputs), -1, 2))[0][:, -1])


class Growing:
    """Builds a network that is wider each time."""

    def __init__(self) -> None:
        self.width = 3

    def __call__(self) -> nn.Module:
        self.width += 1
        return MLP((FEATURES, self.width, CLASSES))()


MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "no module": (lambda: None, "the model is None; give a function that returns a torch.nn.Module"),
    "no parameters": (nn.Identity, "the network has no parameters, so that there is nothing to train"),
    "lazy": (
        lambda: nn.Sequential(nn.LazyLinear(CLASSES)),
        "parameter '0.weight' has no size yet; give its layer one instead of a lazy layer",
    ),
    "frozen": (
        lambda: NETWORK().requires_grad_(False),
        "parameter 'linear1.weight' does not require a gradient, and all parameters are trained; make it a buffer "
        "(register_buffer) to keep it as it is",
    ),
    "an average of all batches": (
        lambda: nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.BatchNorm1d(CLASSES, momentum=None)),
        "layer '1' (BatchNorm1d) has momentum=None, an average that is not kept for several models at once; give it a "
        "momentum, such as 0.1",
    ),
    "samples of another width": (
        MLP((FEATURES - 1, 4, CLASSES)),
        "layer 'linear1' (Linear) cannot take what reaches it from a sample that is a tensor of float32 and shape "
        "(6,) (mat1 and mat2 shapes cannot be multiplied (4x6 and 5x4)); build the network for such samples",
    ),
    "samples that are images": (
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(FEATURES, CLASSES)),
        "layer '0' (BatchNorm2d) cannot take what reaches it from a sample that is a tensor of float32 and shape (6,) "
        "(expected 4D input (got 2D input)); build the network for such samples",
    ),
    "two outputs": (
        lambda: nn.Sequential(nn.LSTM(FEATURES, CLASSES)),
        "the network returns a tuple; return one tensor of outputs",
    ),
    "classes in place of outputs": (
        lambda: nn.Sequential(nn.Linear(FEATURES, CLASSES), Whole()),
        "the network returns a tensor of int64 and shape (4, 3); return real numbers that have a gradient",
    ),
    "samples run together": (
        lambda: nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.Flatten(0), nn.Unflatten(0, (-1, 1))),
        "the network's outputs have shape (12, 1) for inputs of shape (4, 6); return one row of outputs for every "
        "sample",
    ),
    "samples changed in place": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(FEATURES, CLASSES)),
        "layer '0' (ReLU) changes a tensor in place that it was given; make a new one instead, as in x = x + 1 rather "
        "than x += 1",
    ),
}


@SIZES
@pytest.mark.parametrize("case", MODELS)
def test_a_network_that_cannot_be_trained(case: str, members: int) -> None:
    model, words = MODELS[case]
    assert said(members, model=model) == words


def test_networks_that_differ() -> None:
    assert said(2, model=Growing()) == (
        "the model builds networks that differ in 'linear1.weight' ((4, 6) and (5, 6)); let it build the same one each "
        "time, but for the values of its parameters"
    )


def test_an_error_in_the_users_own_forward_stays_as_it_is() -> None:
    def fails(hidden: Tensor) -> Tensor:
        return hidden.reshape(5, -1)

    with pytest.raises(RuntimeError, match=r"^shape '.5, -1.' is invalid for input of size 16"):
        run(1, model=lambda: Between(fails))


RANDOM = "draws random numbers that do not follow from the seed; "
RANDOM_NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "functional dropout": (lambda: Between(F.dropout), "the network"),
    "noise": (lambda: Between(lambda hidden: hidden + torch.randn_like(hidden)), "the network"),
    "attention": (lambda: Attentive(0.5), "layer 'attention' (MultiheadAttention)"),
}


@SIZES
@pytest.mark.parametrize("case", RANDOM_NETWORKS)
@pytest.mark.parametrize("name", ["none", "clip_sample"])
def test_a_network_that_draws_random_numbers(name: str, case: str, members: int) -> None:
    """Also for one model, for which PyTorch would draw whatever comes next."""
    model, who = RANDOM_NETWORKS[case]
    before = torch.get_rng_state()
    assert said(members, model=model, regularizer=REGULARIZERS[name]) == (
        f"{who} {RANDOM}use nn.Dropout layers instead of torch.nn.functional.dropout and of the dropout=... of other "
        "layers"
    )
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch's, of an LSTM under vmap
@SIZES
@pytest.mark.parametrize("model", [lambda: Attentive(0.0), Recurrent])
def test_layers_that_could_draw_and_do_not_are_taken(model: Callable[[], nn.Module], members: int) -> None:
    assert run(members, model=model)[1][-1]["train_loss"].isfinite().all()


def test_what_only_one_network_can_do_is_told_by_its_layer() -> None:
    with pytest.raises(RuntimeError, match=r"^the network looks at the value of a tensor"):
        run(3, model=lambda: Between(lambda hidden: hidden / hidden.max().item()))
    with pytest.raises(RuntimeError, match=r"^the loss looks at the value of a tensor .* compare with torch.arange"):
        run(3, loss=lambda outputs, labels: cross_entropy(outputs, labels) * outputs.max().item())
    with pytest.raises(RuntimeError, match=r"^the loss looks at .* one_hot without num_classes"):
        run(3, loss=lambda outputs, labels: (outputs - F.one_hot(labels)).square().sum(1))


@SIZES
def test_one_hot_rows_in_a_loss(members: int) -> None:
    def by_one_hot(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs - F.one_hot(labels, CLASSES)).square().sum(1)

    def by_hand(outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.square().sum(1) - 2 * outputs.gather(1, labels[:, None])[:, 0] + 1

    for name in ("none", "gnvr"):
        (_, found), (_, expected) = (
            run(members, loss=loss, regularizer=REGULARIZERS[name]) for loss in (by_one_hot, by_hand)
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one["train_loss"], other["train_loss"], rtol=1e-4, atol=1e-5)


def doubled_by_mask(hidden: Tensor) -> Tensor:
    hidden = hidden.clone()
    mask = hidden > 0
    hidden[mask] = hidden[mask] * 2
    return hidden


def test_a_shape_that_follows_from_values_is_no_constant_of_the_trace() -> None:
    """As many entries are positive as it happens, in each step anew; a single model may do that."""
    (_, found), (_, expected) = (
        run(1, model=lambda function=function: Between(function), steps=8)
        for function in (doubled_by_mask, lambda hidden: torch.where(hidden > 0, hidden * 2, hidden))
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one["train_loss"], other["train_loss"], rtol=1e-5, atol=1e-6)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return inputs * inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * ctx.saved_tensors[0] * gradient


UNLIFTED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a function with ctx": (Square.apply, "uses a torch.autograd.Function .* setup_context"),
    "recomputed": (lambda x: checkpoint(torch.tanh, x, use_reentrant=False), "uses torch.utils.checkpoint"),
}


@SIZES
@pytest.mark.parametrize("name", ["none", "gnvr"])
@pytest.mark.parametrize("case", UNLIFTED)
def test_what_torch_func_cannot_lift(case: str, name: str, members: int) -> None:
    function, words = UNLIFTED[case]
    told = said(members, model=lambda: Between(function), regularizer=REGULARIZERS[name])
    assert re.match(f"the network {words}", told)


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
def test_a_buffer_may_be_assigned_or_changed_in_place(members: int) -> None:
    """By hand: the mean of each step's inputs, halved with every step after it."""
    expected = torch.zeros(members)
    for number in range(4):
        expected = expected / 2 + torch.stack([minibatch(10 * number + k)[0].mean() for k in range(members)]).float()
    for assigned in (True, False):
        population, _ = run(members, model=lambda assigned=assigned: Counting(assigned))
        torch.testing.assert_close(population.buffers["running"], expected)


class Cast(nn.Module):
    """Refuses float64; every sample less the mean of the batch if it mixes, in one way or another."""

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
    regularizer = REGULARIZERS[name]
    assert said(members, model=lambda: Cast(True, inside), regularizer=regularizer) == (
        f"regularizer {name!r}: the network mixes the samples of a batch (a sample's output depends on the others), so "
        "that no sample has a gradient of its own; choose a regularizer that does not ask for samples"
    )
    assert (
        run(members, model=lambda: Cast(False, inside), regularizer=regularizer)[1][-1]["train_loss"].isfinite().all()
    )


@pytest.mark.parametrize("bfloat16", [False, True])
def test_rounding_of_float32_is_no_mixing(bfloat16: bool) -> None:
    """A wide and deep network, whose sums are added in another order for one sample than for four."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [layer for _ in range(8) for layer in (nn.Linear(512, 512), nn.ReLU())]
        network = Network(nn.Sequential(Cast(False, False), nn.Linear(CLASSES, 512), *layers), torch.randn(4, FEATURES))
    network.bfloat16 = bfloat16
    assert not rules_hold(network)
    assert "cannot be checked in float64" in (network.obstacle or "")


LOSSES: dict[str, tuple[Any, str]] = {
    "the mean": (F.cross_entropy, "the loss gives a tensor of float32 and shape () for 8 samples"),
    "a loss for every output": (
        lambda outputs, _: -outputs.log_softmax(-1),
        "the loss gives a tensor of float32 and shape (8, 3) for 8 samples",
    ),
    "a column": (
        lambda outputs, labels: cross_entropy(outputs, labels)[:, None],
        "the loss gives a tensor of float32 and shape (8, 1) for 8 samples",
    ),
    "counts": (
        lambda outputs, labels: (outputs.argmax(-1) != labels).long(),
        "the loss gives a tensor of int64 and shape (8,) for 8 samples",
    ),
    "a number": (lambda *_: 1.0, "the loss gives 1.0 for 8 samples"),
}


@SIZES
@pytest.mark.parametrize("name", ["none", "gnvr"])
@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_that_is_not_one_number_a_sample(case: str, name: str, members: int) -> None:
    loss, words = LOSSES[case]
    # A regularizer that asks for samples looks at four of them first.
    words = words if name == "none" else words.replace("8", "4")
    mend = "; return a tensor of one float a sample, [N], without taking their mean"
    assert said(members, loss=loss, regularizer=REGULARIZERS[name]) == words + mend


@pytest.mark.parametrize("case", LOSSES)
def test_evaluation_refuses_such_a_loss(case: str) -> None:
    loss, words = LOSSES[case]
    population, _ = run(3, steps=0)
    wrong, _ = run(3, loss=loss, steps=0)
    inputs, labels = torch.randn(8, FEATURES), torch.arange(24).view(3, 8) % CLASSES
    given = inputs, torch.arange(8).expand(3, -1), torch.ones(3, 8), labels
    assert population.evaluate(*given)[0]["loss"].shape == (3,)
    with pytest.raises(UsageError, match=re.escape(words)):
        wrong.evaluate(*given)


@SIZES
def test_a_loss_that_cannot_be_called(members: int) -> None:
    assert said(members, loss=lambda outputs: outputs.sum(1)).startswith(
        "the loss is called as loss(outputs, labels) and does not take that: "
    )
    assert said(members, loss=nn.CrossEntropyLoss) == (
        "the loss is the class CrossEntropyLoss; give one made from it, CrossEntropyLoss(...)"
    )
    assert run(members, loss=nn.CrossEntropyLoss(reduction="none"))[1][0]["train_loss"].isfinite().all()


@SIZES
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_loss_that_mixes_samples(name: str, members: int) -> None:
    """Refused by regularizers that ask for samples; nothing else minds."""

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(outputs - outputs.mean(0), labels)

    if name not in SINGLE_SAMPLES:
        assert run(members, loss=loss, regularizer=REGULARIZERS[name])[1][0]["train_loss"].isfinite().all()
        return
    assert said(members, loss=loss, regularizer=REGULARIZERS[name]) == (
        f"regularizer {name!r}: the loss mixes the samples of a batch (a sample's loss depends on the others), so that "
        "no sample has a gradient of its own; choose a regularizer that does not ask for samples"
    )


def descent(grads: Tree, _: Any, params: Tree, hyper: Tree) -> Tree:
    """A step of one model down the gradient."""
    return {name: leaf - hyper["learning_rate"] * grads[name] for name, leaf in params.items()}


Update = Callable[[Tree, Any, Tree, Tree], Any]
UPDATES: dict[str, tuple[Update, str]] = {
    "a parameter less": (
        lambda g, s, p, h: ({name: leaf for name, leaf in descent(g, s, p, h).items() if name != "linear2.bias"}, s),
        "its result lacks the leaf 'linear2.bias'; return one for every parameter",
    ),
    "a parameter less in the same dict": (
        lambda _, s, p, __: (p.pop("linear2.bias"), (p, s))[1],
        "its result lacks the leaf 'linear2.bias'; return one for every parameter",
    ),
    "a parameter more": (
        lambda g, s, p, h: (descent(g, s, p, h) | {"more": p["linear2.bias"]}, s),
        "its result has a leaf 'more' that is no parameter; leave it out",
    ),
    "numbers": (
        lambda g, s, p, h: (descent(g, s, p, h) | {"linear2.bias": 0.0}, s),
        "its result for 'linear2.bias' is 0.0; return a tensor of the parameter's shape",
    ),
    "another kind": (
        lambda g, s, p, h: ({name: leaf.double() for name, leaf in descent(g, s, p, h).items()}, s),
        "its result for 'linear1.weight' is float64, and the parameter is float32; return it as the parameter is",
    ),
    "the parameters alone": (descent, "its update returns a dict; return (params, state), params being a dict"),
    "nothing": (lambda *_: None, "its update returns nothing; return (params, state), params being a dict"),
}


@SIZES
@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize("case", UPDATES)
def test_an_update_that_gives_no_parameters(case: str, lifted: bool, members: int) -> None:
    update, words = UPDATES[case]

    def on_the_stack(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
        return update(grads, state, params, hyper | {"learning_rate": 0.1})

    optimizer = per_model("own", dict, update, {}) if lifted else Optimizer("own", dict, on_the_stack, {})
    assert said(members, optimizer=optimizer) == f"optimizer 'own': {words}"


@SIZES
def test_an_update_of_another_shape(members: int) -> None:
    def update(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
        return {name: leaf.sum(-1) for name, leaf in descent(grads, state, params, hyper).items()}, state

    assert said(members, optimizer=per_model("own", dict, update, {})) == (
        "optimizer 'own': its result for 'linear1.weight' has shape (5,), and the parameter has (5, 6); return a "
        "result of the parameter's shape"
    )


@SIZES
def test_parameters_in_another_order_are_taken(members: int) -> None:
    def reverse(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
        return dict(reversed(descent(grads, state, params, hyper).items())), state

    def straight(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
        return descent(grads, state, params, hyper), state

    found, expected = (run(members, optimizer=per_model("own", dict, way, {})) for way in (reverse, straight))
    assert found[0]._gradients._trace is not None
    torch.testing.assert_close(found[0].params, expected[0].params)
    assert list(found[0].params) == list(expected[0].params)


LIFTED_STATES: dict[str, tuple[Any, Update, str]] = {
    "a number": (
        {"steps": 0},
        lambda g, s, p, h: (descent(g, s, p, h), {"steps": s["steps"] + 1}),
        "its state's leaf 'steps' is 0; let init give tensors in a dict, such as torch.tensor(0.0)",
    ),
    "none": (None, lambda g, s, p, h: (descent(g, s, p, h), s), "its state is None; let init give tensors in a dict, "
    "such as {} for none"),
    "a leaf more": (
        {},
        lambda g, s, p, h: (descent(g, s, p, h), {"last": g}),
        "its state gains a leaf 'last'; let init give it from the start",
    ),
}  # fmt: skip


@SIZES
@pytest.mark.parametrize("case", LIFTED_STATES)
def test_the_state_of_a_lifted_optimizer_keeps_its_leaves(case: str, members: int) -> None:
    state, update, words = LIFTED_STATES[case]
    optimizer = per_model("own", lambda _: state, update, {})
    assert said(members, optimizer=optimizer) == f"optimizer 'own': {words}"


STACKED_STATES: dict[str, tuple[Any, str]] = {
    "a number": (
        {"steps": 0.0},
        "its state's leaf 'steps' is 0.0; let init give tensors in a dict, such as torch.tensor(0.0)",
    ),
    "one for all models": (
        {"count": {"steps": torch.zeros(())}},
        "its state's leaf 'count.steps' is a tensor of float32 and shape (), and its first axis is to be that of the "
        "models (3 here); or write the optimizer for one model, with hpo.per_model",
    ),
}


@pytest.mark.parametrize("when", ["from the start", "after a step"])
@pytest.mark.parametrize("case", STACKED_STATES)
def test_the_state_of_an_optimizer_on_the_stack_is_of_tensors(case: str, when: str) -> None:
    """What it keeps under a name with _ in front is its own affair."""
    state, words = STACKED_STATES[case]

    def update(_: Tree, before: Any, params: Tree, __: Tree) -> Any:
        return params, (state if when == "after a step" else before) | {"_own": [1, "a"]}

    optimizer = Optimizer("own", lambda _: state if when == "from the start" else {}, update, {})
    assert said(3, optimizer=optimizer) == f"optimizer 'own': {words}"
    kept = Optimizer("own", lambda _: {"steps": torch.zeros(3)}, lambda g, s, p, h: (p, s | {"_own": (g, h)}), {})
    run(3, optimizer=kept)


@SIZES
def test_what_an_optimizer_does_otherwise_wrong(members: int) -> None:
    def random(_: Tree, state: Any, params: Tree, __: Tree) -> Any:
        return {name: leaf + torch.randn_like(leaf) for name, leaf in params.items()}, state

    def looks(grads: Tree, state: Any, params: Tree, __: Tree) -> Any:
        return (grads if grads["linear2.bias"].sum() > 0 else params), state

    def misspelt(grads: Tree, state: Any, params: Tree, hyper: Tree) -> Any:
        return {name: leaf - hyper["lr"] * grads[name] for name, leaf in params.items()}, state

    assert said(members, optimizer=per_model("own", dict, random, {})) == (
        f"optimizer 'own' {RANDOM}take them from hpo.random, by a step that the state counts"
    )
    assert said(members, optimizer=per_model("own", dict, lambda one, two: (one, two), {})).startswith(
        "optimizer 'own' is called as update(grads, state, params, hyper) and does not take that: "
    )
    with pytest.raises(RuntimeError, match=r"^optimizer 'own' looks at the value of a tensor .*, or compare with"):
        run(members, optimizer=per_model("own", dict, looks, {}))
    for optimizer in (per_model("own", dict, misspelt, {}), Optimizer("own", dict, misspelt, {})):
        with pytest.raises(KeyError, match="there is no hyperparameter 'lr'; there are 'learning_rate', "):
            run(members, optimizer=optimizer)
