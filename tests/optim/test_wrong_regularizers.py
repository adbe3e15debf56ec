"""Wrong regularizers are refused in one sentence, for one model and for several."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import FEATURES, minibatch
from small_runs import NETWORK, SIZES, Grads, assert_refused, custom, run, seen, with_gradient, with_scalar, with_state
from torch import Tensor, nn

from hpo.cli.terminal.messages import user_traceback
from hpo.errors import UsageError
from hpo.gradients.objective import Objective
from hpo.models.losses import cross_entropy
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.training.population import Population
from hpo.tree import Tree
from hpo.user_code.messages import warn_once

pytestmark = pytest.mark.usefixtures("one_thread")

STATES: dict[str, tuple[Callable[[Any], Any], Callable[[], Any], tuple[str, ...]]] = {
    "a leaf more each step": (
        lambda state: state | {f"step {len(state)}": torch.zeros(())},
        seen,
        ("additional", "'step 1'"),
    ),
    "a leaf more in the same dict": (
        lambda state: [state.update(more=torch.ones(())), state][1],
        seen,
        ("additional", "'more'"),
    ),
    "a nested leaf more": (
        lambda state: {"inner": state["inner"] | {"more": torch.ones(())}},
        lambda: {"inner": seen()},
        ("additional", "'inner.more'"),
    ),
    "a leaf less": (lambda _: {}, seen, ("lacks", "'seen'")),
    "a shape that grows": (
        lambda state: {"seen": torch.cat([state["seen"], state["seen"]])},
        lambda: {"seen": torch.zeros(1)},
        ("'seen' becomes", "shape (2,)", "shape (1,)"),
    ),
    "another dtype": (lambda state: {"seen": state["seen"].double()}, seen, ("'seen' becomes", "float64", "float32")),
    "a number": (lambda _: {"seen": 1.5}, seen, ("'seen' becomes 1.5",)),
    "nothing": (lambda _: None, seen, ("its state becomes None",)),
    "a number from the start": (lambda state: state, lambda: {"seen": 0.0}, ("'seen' is 0.0", "torch.tensor(0.0)")),
    "no dict from the start": (lambda state: state, lambda: torch.zeros(()), ("its state is", "float32", "{}")),
}


@SIZES
@pytest.mark.parametrize("case", STATES)
def test_a_state_keeps_its_leaves(case: str, members: int) -> None:
    change, init, fragments = STATES[case]
    assert_refused(members, "regularizer 'mine': its state", *fragments, regularizer=with_state(change, init))


BIAS, WEIGHT = "linear1.bias", "linear1.weight"
GRADIENTS: dict[str, tuple[Callable[[Tree], Any], tuple[str, ...]]] = {
    "a leaf less": (lambda g: {key: leaf for key, leaf in g.items() if key != BIAS}, ("lacks", repr(BIAS))),
    "a leaf more": (lambda g: g | {"penalty": g[BIAS]}, ("additional", "'penalty'")),
    "transposed": (lambda g: g | {WEIGHT: g[WEIGHT].T}, (repr(WEIGHT), "(6, 5)", "(5, 6)")),
    "summed": (lambda g: g | {BIAS: g[BIAS].sum()}, (repr(BIAS), "shape ()", "(5,)")),
    "a number": (lambda g: g | {BIAS: 0.0}, (repr(BIAS), "is 0.0")),
    "None": (lambda g: g | {BIAS: None}, (repr(BIAS), "is None")),
    "float64": (lambda g: {name: leaf.double() for name, leaf in g.items()}, ("float64", "float32")),
    "int64": (lambda g: {name: leaf.long() for name, leaf in g.items()}, ("int64", "float32")),
    "bool": (lambda g: {name: leaf.bool() for name, leaf in g.items()}, ("bool", "float32")),
}  # fmt: skip


@SIZES
@pytest.mark.parametrize("case", GRADIENTS)
def test_a_gradient_unlike_the_parameters(case: str, members: int) -> None:
    change, fragments = GRADIENTS[case]
    assert_refused(members, "regularizer 'mine': its gradient", *fragments, regularizer=with_gradient(change))


@SIZES
def test_a_gradient_in_another_order_is_accepted(members: int) -> None:
    reverse = with_gradient(lambda gradient: dict(reversed(gradient.items())))
    (one, _), (other, _) = run(members, reverse), run(members)
    torch.testing.assert_close(one.params, other.params)


def first_leaf(params: Tree) -> Tree:
    return {WEIGHT: params[WEIGHT]}


REQUESTS: dict[str, tuple[Grads, tuple[str, ...]]] = {
    "a view that is not declared": (lambda o, params, *_: o.loss(params, view=1), ("view 1", "view 0", "views=2")),
    "norms of such a view": (lambda o, params, *_: o.sample_grad_norms(params, view=1).mean(), ("view 1", "views=2")),
    "a view that is no number": (lambda o, params, *_: o.loss(params, "1"), ("view '1'", "view 0")),
    "some of the parameters": (lambda o, params, *_: o.loss(first_leaf(params)), (repr(BIAS), "{**params")),
    "no sample": (lambda o, params, *_: o.subset(slice(8, None)).loss(params), ("slice(8, None, None)", "8 samples")),
    "a number of samples": (lambda o, params, *_: o.subset(4).loss(params), ("subset got 4", "8 samples")),
    "the last layer of some": (
        lambda o, params, *_: o.last_layer_grad({"linear2.weight": params["linear2.weight"]}),
        (repr(WEIGHT), "{**params"),
    ),
    "parameters of another shape": (
        lambda o, params, *_: o.loss({**params, WEIGHT: params[WEIGHT].T}),
        (repr(WEIGHT), "(6, 5)", "(5, 6)"),
    ),
    "a list of parameters": (lambda o, params, *_: o.loss(list(params.values())), ("a list", "dict")),
    "too few weights": (lambda o, params, *_: o.weighted_grad(params, torch.ones(5)), ("weighted_grad", "(5,)", "8")),
    "one weight": (lambda o, params, *_: o.weighted_grad(params, 0.5), ("weighted_grad got 0.5", "8 samples")),
    "a penalty of every sample": (lambda o, params, *_: o.penalised_grad(params, o.sample_losses), ("penalty", "(8,)")),
    "a penalty that is a number": (lambda o, params, *_: o.penalised_grad(params, lambda _: 0.0), ("gives 0.0",)),
    "one value to differentiate": (lambda o, params, *_: o.grad_of(o.loss, params), ("grad_of", "shape ()")),
    "losses to differentiate": (
        lambda o, params, *_: o.grad_of(lambda at: (o.sample_losses(at), {}), params),
        ("shape (8,)", "differentiated"),
    ),
    "a number besides the gradient": (
        lambda o, params, *_: o.grad_of(lambda at: (o.loss(at), {"a": 1}), params),
        ("grad_of", "returns 1"),
    ),
}  # fmt: skip


@SIZES
@pytest.mark.parametrize("case", REQUESTS)
def test_what_the_objective_refuses(case: str, members: int) -> None:
    compute, fragments = REQUESTS[case]
    assert_refused(members, "regularizer 'mine': ", *fragments, regularizer=with_scalar(compute))


def test_a_view_beyond_those_declared() -> None:
    regularizer = with_scalar(lambda objective, params, *_: objective.loss(params, 2))._replace(views=2)
    assert_refused(1, "view 2", "views 0 to 1", "views=3", regularizer=regularizer)


@SIZES
def test_a_misspelt_name_is_shown_at_the_users_line(members: int) -> None:
    """An ordinary error, so that `hpo try` shows the way to the line that raised it."""
    with pytest.raises(KeyError, match=r"'strenght'.*'learning_rate'.*; did you mean 'strength'") as misspelt:
        run(members, with_scalar(lambda objective, params, _, hyper: hyper["strenght"] * objective.loss(params)))
    methods = ", ".join(name for name in dir(Objective) if not name.startswith("_"))
    with pytest.raises(AttributeError, match=f"'sample_norms'; it has {methods}; .*'sample_grad_norms'") as unknown:
        run(members, with_scalar(lambda objective, params, *_: objective.sample_norms(params)))
    for error, line in ((misspelt, 'hyper["strenght"]'), (unknown, "objective.sample_norms(params)")):
        shown = user_traceback(error.value).splitlines()
        assert shown[0] == "Traceback into your code:"
        assert any(line in each for each in shown[1:-1])
        assert error.value.args[0] in shown[-1]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # PyTorch's own, at the first jvp
@SIZES
def test_transforms_of_the_user_leave_nothing_behind(members: int) -> None:
    """Gradients by torch.func, a Hessian-vector product and losses at several points, against the objective's own."""

    def grads(objective: Objective, params: Tree, state: Any, hyper: Tree) -> Any:
        scaled = torch.func.grad(lambda at, chosen: chosen["strength"] * objective.loss(at))(params, hyper)
        _, product = torch.func.jvp(objective.grad, (params,), (params,))
        losses = torch.func.vmap(lambda by: objective.loss({n: by * p for n, p in params.items()}))(torch.arange(2.0))
        return scaled, state, {"loss": losses[1], "product": product[BIAS].sum()}

    def slowly(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        def directional(at: Tree) -> tuple[Tensor, Tree]:
            return torch.stack([(g * params[name]).sum() for name, g in objective.grad(at).items()]).sum(), {}

        product, _ = objective.grad_of(directional, params)
        scaled = {name: g / 2 for name, g in objective.grad(params).items()}
        return scaled, state, {"loss": objective.loss(params), "product": product[BIAS].sum()}

    one, other = run(members, custom(grads)), run(members, custom(slowly))
    for first, second in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(first, second)
    torch.testing.assert_close(one[0].params, other[0].params)


OF_SEVERAL: dict[str, tuple[Grads, str]] = {
    "if": (lambda o, params, *_: o.loss(params) if o.loss(params) > 0 else None, "reads a tensor's value"),
    "item": (lambda o, params, *_: torch.full((), o.loss(params).item()), "reads a tensor's value"),
    "numpy": (lambda _, params, *__: torch.tensor(params[BIAS].numpy().sum()), "reads a tensor's value"),
    "mask": (lambda o, params, *_: o.sample_losses(params)[o.sample_losses(params) > 1].sum(), "makes a shape depend"),
    "unique": (lambda o, params, *_: o.sample_losses(params).unique()[0], "makes a shape depend on values"),
    "deepcopy": (lambda _, params, *__: copy.deepcopy(params)[BIAS].sum(), "copies a tensor by torch.tensor"),
    "+=": (lambda o, params, *_: torch.zeros(()).add_(o.loss(params)), "changes a tensor in place"),
}


@pytest.mark.parametrize("case", OF_SEVERAL)
def test_what_one_model_may_do_and_several_may_not(case: str) -> None:
    """It stays an ordinary error with its way through the user's code: workers then train one model at a time."""
    compute, words = OF_SEVERAL[case]
    run(1, with_scalar(compute))
    with pytest.raises(RuntimeError, match=f"^regularizer 'mine' {words}.*--population 1") as caught:
        run(3, with_scalar(compute))
    assert "vmap" not in str(caught.value) and "\n" not in str(caught.value)
    assert user_traceback(caught.value).startswith("Traceback into your code:")


@SIZES
def test_random_numbers_are_refused(members: int) -> None:
    """Also for one model, where PyTorch itself would draw."""
    before = torch.get_rng_state()
    noisy = with_scalar(lambda objective, params, *_: objective.loss(params) + torch.rand(()))
    initial = with_state(lambda state: state, lambda: {"seen": torch.randn(3)})
    for regularizer in (noisy, initial):
        assert_refused(members, "regularizer 'mine' draws random numbers", "hpo.random", regularizer=regularizer)
    assert torch.equal(torch.get_rng_state(), before)


@SIZES
def test_arguments_are_not_changed_in_place(members: int) -> None:
    weights = with_scalar(lambda _, params, *__: params[BIAS].add_(1).sum())
    assert_refused(members, f"regularizer 'mine' changes params['{BIAS}'] in place", regularizer=weights)
    counting = with_state(lambda state: {"seen": state["seen"].add_(1)}, lambda: {"seen": torch.zeros(2)})
    assert_refused(members, "regularizer 'mine' changes ", regularizer=counting)


@SIZES
@pytest.mark.parametrize(
    "compute",
    [
        lambda objective, params, *_: objective.loss(params).backward(),
        lambda objective, params, *_: torch.autograd.grad(objective.loss(params), list(params.values())),
    ],
)
def test_gradients_by_autograd_are_refused(compute: Grads, members: int) -> None:
    words = ("regularizer 'mine' calls backward()", "objective.grad or objective.grad_of")
    assert_refused(members, *words, regularizer=with_scalar(compute))


@SIZES
def test_functions_that_take_other_arguments(members: int) -> None:
    three = custom(lambda one, two, three: (one, two, three))
    assert_refused(members, "'mine' is called as grads(objective, params, state, hyper)", regularizer=three)
    no_argument = custom(REGULARIZERS["none"].grads)._replace(init=seen)
    assert_refused(members, "regularizer 'mine' is called as init(params)", regularizer=no_argument)


def test_an_error_of_the_user_stays_as_it_is() -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("my own mistake")

    with pytest.raises(ValueError, match=r"^my own mistake$"):
        run(1, custom(fails))
    with pytest.raises(TypeError, match=r"^object of type 'int' has no len\(\)$"):
        run(1, with_scalar(lambda *_: len(3)))


@pytest.mark.parametrize("part", ["regularizer", "loss", "model"])
def test_memory_that_runs_out_is_left_to_the_worker(part: str) -> None:
    class Large(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:  # noqa: ARG002
            raise torch.OutOfMemoryError("CUDA out of memory")

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    Large.__module__ = "torch.nn.modules.linear"  # as a layer of PyTorch
    parts = {"regularizer": custom(full), "loss": full, "model": lambda: Large(FEATURES, 3)}
    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory$"):
        run(1, **{part: parts[part]})


@SIZES
def test_truth_values_and_counts_are_shown_by_their_means(members: int) -> None:
    """As numbers: the sum of two truth values would be a truth value."""

    def grads(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        after = state["seen"] + 1
        return objective.grad(params), {"seen": after}, {"odd": after % 2 == 1, "count": after.long()}

    _, scalars = run(members, custom(grads, seen))
    for name, total in (("odd", 2.0), ("count", 10.0)):
        first, *rest = (each[f"aux/{name}"] for each in scalars)
        assert sum(rest, first).tolist() == [total] * members


@SIZES
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weights_in_a_state_do_not_change(optimizer: str, members: int) -> None:
    """The optimizers change the weights in place: those of the beginning, and those of the step before."""
    leaf = "linear2.weight"

    def grads(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        moved = {name: (params[leaf] - kept).abs().sum() for name, kept in state.items()}
        return objective.grad(params), {"first": state["first"], "last": params[leaf]}, moved

    regularizer = Regularizer("mine", grads, init=lambda params: {"first": params[leaf], "last": params[leaf]})
    values = {name: torch.full((members,), 0.1) for name in OPTIMIZERS[optimizer].hyperparameters}
    modules = [NETWORK() for _ in range(members)]
    example = minibatch(0)[0][0].float()
    population = Population(modules, regularizer, OPTIMIZERS[optimizer], values, cross_entropy, example)
    weights: list[Tensor] = []
    for number in range(5):
        weights.append(population.params[leaf].clone())
        inputs, labels = (torch.stack([part] * members) for part in minibatch(number))
        scalars = population.step(inputs.float(), labels)
        for name, kept in (("first", weights[0]), ("last", weights[max(0, number - 1)])):
            moved = (weights[-1] - kept).abs().sum((1, 2))
            torch.testing.assert_close(scalars[f"aux/{name}"], moved)
            assert bool((moved > 0).all()) == (number > 0)


@SIZES
def test_a_state_in_another_order_is_the_same_state(members: int) -> None:
    def grads(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        return objective.grad(params), {"two": state["two"] + 2, "one": state["one"] + 1}, dict(state)

    population, scalars = run(members, custom(grads, lambda: {"one": torch.zeros(()), "two": torch.zeros(())}))
    assert scalars[3]["aux/one"].tolist() == [3.0] * members
    assert scalars[3]["aux/two"].tolist() == [6.0] * members
    assert all(traced._trace is not None for traced in population._traced.values())


@SIZES
def test_state_outside_the_state_is_refused(members: int) -> None:
    """A tensor of the step before, kept in a variable: a replay would repeat its value of the first step."""
    kept: dict[str, Tensor] = {}

    def grads(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        before = kept.get("loss", torch.zeros(members))
        kept["loss"] = state["seen"].detach()
        return objective.grad(params), {"seen": state["seen"] + 1}, {"before": before.sum()}

    with pytest.raises(UsageError, match="regularizer 'mine', the network or the loss"):
        run(members, custom(grads, seen))


@SIZES
def test_defects_of_the_first_gradient_are_logged_once(members: int, caplog: pytest.LogCaptureFixture) -> None:
    """However many populations a process trains."""

    def broken(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        return objective.grad(params) | {"linear2.bias": params["linear2.bias"] / 0}, state, {}

    def flat(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        return {name: 0 * leaf for name, leaf in objective.grad(params).items()}, state, {}

    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for grads in (broken, flat, broken, flat):
            run(members, custom(grads), steps=1)
        run(members, custom(broken)._replace(name="other"), steps=1)
    expected = [("'mine'", "'linear2.bias'", "not finite"), ("'mine'", "zero"), ("'other'", "not finite")]
    for message, fragments in zip(caplog.messages, expected, strict=True):
        assert all(fragment in message for fragment in fragments)
