"""Wrong regularizers: one sentence that says what to write instead, for one model and for several."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import FEATURES, minibatch
from small_runs import NETWORK, SIZES, Grads, asking, keeping, mine, run, said, seen
from torch import Tensor, nn

from hpo.cli.terminal.messages import own_traceback
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

STATES: dict[str, tuple[Callable[[Any], Any], Callable[[], Any], str]] = {
    "a leaf more each step": (
        lambda state: state | {f"step {len(state)}": torch.zeros(())},
        seen,
        "its state gains a leaf 'step 1'; let init give it from the start",
    ),
    "a leaf more in the same dict": (
        lambda state: [state.update(more=torch.ones(())), state][1],
        seen,
        "its state gains a leaf 'more'; let init give it from the start",
    ),
    "a nested leaf more": (
        lambda state: {"inner": state["inner"] | {"more": torch.ones(())}},
        lambda: {"inner": seen()},
        "its state gains a leaf 'inner.more'; let init give it from the start",
    ),
    "a leaf less": (lambda _: {}, seen, "its state loses the leaf 'seen'; return all that init gives, each time"),
    "a shape that grows": (
        lambda state: {"seen": torch.cat([state["seen"], state["seen"]])},
        lambda: {"seen": torch.zeros(1)},
        "its state's leaf 'seen' becomes a tensor of float32 and shape (2,) after a tensor of float32 and shape (1,); "
        "return tensors of one shape and kind",
    ),
    "another kind": (
        lambda state: {"seen": state["seen"].double()},
        seen,
        "its state's leaf 'seen' becomes a tensor of float64 and shape () after a tensor of float32 and shape (); "
        "return tensors of one shape and kind",
    ),
    "a number": (
        lambda _: {"seen": 1.5},
        seen,
        "its state's leaf 'seen' becomes 1.5; return a tensor like the one that init gives",
    ),
    "nothing": (lambda _: None, seen, "its state becomes None; return a dict like the one that init gives"),
    "a number from the start": (
        lambda state: state,
        lambda: {"seen": 0.0},
        "its state's leaf 'seen' is 0.0; let init give tensors in a dict, such as torch.tensor(0.0)",
    ),
    "no dict from the start": (
        lambda state: state,
        lambda: torch.zeros(()),
        "its state is a tensor of float32 and shape (); let init give tensors in a dict, such as {} for none",
    ),
}


@SIZES
@pytest.mark.parametrize("case", STATES)
def test_a_state_keeps_its_leaves(case: str, members: int) -> None:
    change, init, words = STATES[case]
    assert said(members, regularizer=keeping(change, init)) == f"regularizer 'mine': {words}"


QUESTIONS: dict[str, tuple[Grads, str]] = {
    "a view that is not declared": (
        lambda objective, params, *_: objective.loss(params, view=1),
        "the objective is asked about view 1, and there is view 0 alone; give the Regularizer views=2",
    ),
    "norms of such a view": (
        lambda objective, params, *_: objective.sample_grad_norms(params, view=1).mean(),
        "the objective is asked about view 1, and there is view 0 alone; give the Regularizer views=2",
    ),
    "a view that is no number": (
        lambda objective, params, *_: objective.loss(params, "1"),
        "the objective is asked about view '1', and there is view 0 alone",
    ),
    "some of the parameters": (
        lambda objective, params, *_: objective.loss({"linear1.weight": params["linear1.weight"]}),
        "the objective is asked about parameters without 'linear1.bias'; give all of them, as in "
        "{**params, name: changed}",
    ),
    "no sample": (
        lambda objective, params, *_: objective.subset(slice(8, None)).loss(params),
        "subset is given slice(8, None, None) for 8 samples; give a slice of them, as slice(32) is",
    ),
    "a number of samples": (
        lambda objective, params, *_: objective.subset(4).loss(params),
        "subset is given 4 for 8 samples; give a slice of them, as slice(32) is",
    ),
    "the last layer of some": (
        lambda objective, params, *_: objective.last_layer_grad({"linear2.weight": params["linear2.weight"]}),
        "the objective is asked about parameters without 'linear1.weight'; give all of them, as in "
        "{**params, name: changed}",
    ),
    "parameters of another shape": (
        lambda objective, params, *_: objective.loss({**params, "linear1.weight": params["linear1.weight"].T}),
        "the objective is asked about 'linear1.weight' of shape (6, 5); the parameter has (5, 6)",
    ),
    "a list of parameters": (
        lambda objective, params, *_: objective.loss(list(params.values())),
        "the objective is asked about a list; give a dict like params",
    ),
    "too few weights": (
        lambda objective, params, *_: objective.weighted_grad(params, torch.ones(5)),
        "weighted_grad is given a tensor of float32 and shape (5,) for 8 samples; give weights [N]",
    ),
    "one weight": (
        lambda objective, params, *_: objective.weighted_grad(params, 0.5),
        "weighted_grad is given 0.5 for 8 samples; give weights [N]",
    ),
    "a penalty of every sample": (
        lambda objective, params, *_: objective.penalised_grad(params, objective.sample_losses),
        "its penalty gives a tensor of float32 and shape (8,); return a tensor of one number, as mean() is",
    ),
    "a penalty that is a number": (
        lambda objective, params, *_: objective.penalised_grad(params, lambda _: 0.0),
        "its penalty gives 0.0; return a tensor of one number, as mean() is",
    ),
    "one value to differentiate": (
        lambda objective, params, *_: objective.grad_of(objective.loss, params),
        "grad_of is given a function that returns a tensor of float32 and shape (); return (number, tensors), tensors "
        "being a dict, such as {}",
    ),
    "losses to differentiate": (
        lambda objective, params, *_: objective.grad_of(lambda at: (objective.sample_losses(at), {}), params),
        "a tensor of float32 and shape (8,) is to be differentiated; take its sum or mean, a tensor of one number",
    ),
    "a number handed out": (
        lambda objective, params, *_: objective.grad_of(lambda at: (objective.loss(at), {"a": 1}), params),
        "grad_of is given a function that hands out 1; hand out tensors",
    ),
}


@SIZES
@pytest.mark.parametrize("case", QUESTIONS)
def test_what_the_objective_cannot_answer(case: str, members: int) -> None:
    ask, words = QUESTIONS[case]
    assert said(members, regularizer=asking(ask)) == f"regularizer 'mine': {words}"


def test_a_view_beyond_those_declared() -> None:
    regularizer = asking(lambda objective, params, *_: objective.loss(params, 2))._replace(views=2)
    assert said(1, regularizer=regularizer).endswith("view 2, and there are views 0 to 1; give the Regularizer views=3")


@SIZES
def test_a_misspelt_name_is_told_at_the_users_line(members: int) -> None:
    """An ordinary error, so that `hpo try` shows the way to the line that raised it."""
    with pytest.raises(KeyError) as misspelt:
        run(members, asking(lambda objective, params, _, hyper: hyper["strenght"] * objective.loss(params)))
    assert misspelt.value.args == (
        "there is no hyperparameter 'strenght'; there are 'learning_rate', 'weight_decay', 'momentum', 'strength'; "
        "did you mean 'strength'?",
    )
    with pytest.raises(AttributeError) as unknown:
        run(members, asking(lambda objective, params, *_: objective.sample_norms(params)))
    assert str(unknown.value) == (
        "the objective has no 'sample_norms'; it has buffers, grad, grad_of, last_layer_grad, loss, mean_grad, "
        "penalised_grad, sample_grad_norms, sample_grads, sample_losses, sign_mean, subset, task_loss, weighted_grad; "
        "did you mean 'sample_grad_norms' or 'sample_grads'?"
    )
    for error, line in ((misspelt, 'hyper["strenght"]'), (unknown, "objective.sample_norms(params)")):
        shown = own_traceback(error.value).splitlines()
        assert shown[0] == "Traceback into your code:"
        assert any(line in each for each in shown[1:-1])
        assert error.value.args[0] in shown[-1]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # PyTorch's own, at the first jvp
@SIZES
def test_transforms_of_the_users_own_leave_nothing_behind(members: int) -> None:
    """Gradients by torch.func, a Hessian-vector product and losses at several places, against the objective's own."""

    def grads(objective: Objective, params: Tree, state: Any, hyper: Tree) -> Any:
        scaled = torch.func.grad(lambda at, chosen: chosen["strength"] * objective.loss(at))(params, hyper)
        _, product = torch.func.jvp(objective.grad, (params,), (params,))
        losses = torch.func.vmap(lambda by: objective.loss({n: by * p for n, p in params.items()}))(torch.arange(2.0))
        return scaled, state, {"loss": losses[1], "product": product["linear1.bias"].sum()}

    def slowly(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        def along(at: Tree) -> tuple[Tensor, Tree]:
            return torch.stack([(g * params[name]).sum() for name, g in objective.grad(at).items()]).sum(), {}

        product, _ = objective.grad_of(along, params)
        scaled = {name: g / 2 for name, g in objective.grad(params).items()}
        return scaled, state, {"loss": objective.loss(params), "product": product["linear1.bias"].sum()}

    found, expected = run(members, mine(grads)), run(members, mine(slowly))
    for one, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(found[0].params, expected[0].params)


OF_SEVERAL: dict[str, tuple[Grads, str]] = {
    "if": (lambda o, params, *_: o.loss(params) if o.loss(params) > 0 else None, "looks at the value of a tensor"),
    "item": (lambda o, params, *_: torch.full((), o.loss(params).item()), "looks at the value of a tensor"),
    "numpy": (lambda _, params, *__: torch.tensor(params["linear1.bias"].numpy().sum()), "looks at the value"),
    "mask": (lambda o, params, *_: o.sample_losses(params)[o.sample_losses(params) > 1].sum(), "makes a shape depend"),
    "unique": (lambda o, params, *_: o.sample_losses(params).unique()[0], "makes a shape depend on values"),
    "deepcopy": (lambda _, params, *__: copy.deepcopy(params)["linear1.bias"].sum(), "copies a tensor by torch.tensor"),
    "+=": (lambda o, params, *_: torch.zeros(()).add_(o.loss(params)), "changes a tensor in place"),
}


@pytest.mark.parametrize("case", OF_SEVERAL)
def test_what_one_model_may_do_and_several_may_not(case: str) -> None:
    """It stays an ordinary error with its way through the user's code: workers then train one model at a time."""
    ask, words = OF_SEVERAL[case]
    run(1, asking(ask))
    with pytest.raises(RuntimeError) as caught:
        run(3, asking(ask))
    text = str(caught.value)
    assert text.startswith(f"regularizer 'mine' {words}")
    assert text.endswith(", or train with --population 1 and without per-sample gradients")
    assert "vmap" not in text and "\n" not in text
    assert own_traceback(caught.value).startswith("Traceback into your code:")


@SIZES
def test_random_numbers_are_refused(members: int) -> None:
    """Also for one model, for which PyTorch would draw whatever comes next."""
    before = torch.get_rng_state()
    words = (
        "regularizer 'mine' draws random numbers that do not follow from the seed; take them from hpo.random, by a "
        "step that the state counts"
    )
    noisy = asking(lambda objective, params, *_: objective.loss(params) + torch.rand(()))
    assert said(members, regularizer=noisy) == words
    begun = keeping(lambda state: state, lambda: {"seen": torch.randn(3)})
    assert said(members, regularizer=begun) == words
    assert torch.equal(torch.get_rng_state(), before)


@SIZES
def test_what_is_given_is_not_changed_in_place(members: int) -> None:
    weights = asking(lambda _, params, *__: params["linear1.bias"].add_(1).sum())
    place = "regularizer 'mine' changes params['linear1.bias'] in place; make a new tensor instead, as in x = x + 1"
    assert said(members, regularizer=weights) == place
    counting = keeping(lambda state: {"seen": state["seen"].add_(1)}, lambda: {"seen": torch.zeros(2)})
    assert said(members, regularizer=counting).startswith("regularizer 'mine' changes ")


@SIZES
@pytest.mark.parametrize(
    "ask",
    [
        lambda objective, params, *_: objective.loss(params).backward(),
        lambda objective, params, *_: torch.autograd.grad(objective.loss(params), list(params.values())),
    ],
)
def test_gradients_by_autograd_are_told_to_ask_the_objective(ask: Grads, members: int) -> None:
    assert said(members, regularizer=asking(ask)) == (
        "regularizer 'mine' calls backward(), torch.autograd.grad or requires_grad_(); ask objective.grad or "
        "objective.grad_of instead"
    )


@SIZES
def test_functions_that_take_other_arguments(members: int) -> None:
    assert said(members, regularizer=mine(lambda one, two, three: (one, two, three))).startswith(
        "regularizer 'mine' is called as grads(objective, params, state, hyper) and does not take that: "
    )
    assert said(members, regularizer=mine(REGULARIZERS["none"].grads)._replace(init=seen)).startswith(
        "regularizer 'mine' is called as init(params) and does not take that: "
    )


def test_an_error_of_ones_own_stays_as_it_is() -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("my own mistake")

    with pytest.raises(ValueError, match=r"^my own mistake$"):
        run(1, mine(fails))
    with pytest.raises(TypeError, match=r"^object of type 'int' has no len\(\)$"):
        run(1, asking(lambda *_: len(3)))


@pytest.mark.parametrize("part", ["regularizer", "loss", "model"])
def test_memory_that_runs_out_is_left_to_the_worker(part: str) -> None:
    class Large(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:  # noqa: ARG002
            raise torch.OutOfMemoryError("CUDA out of memory")

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    Large.__module__ = "torch.nn.modules.linear"  # as a layer of PyTorch's own does
    parts = {"regularizer": mine(full), "loss": full, "model": lambda: Large(FEATURES, 3)}
    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory$"):
        run(1, **{part: parts[part]})


@SIZES
@pytest.mark.parametrize("kind", ["float64", "int64", "bool"])
def test_a_gradient_of_another_kind(kind: str, members: int) -> None:
    def grads(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        return {name: leaf.to(getattr(torch, kind)) for name, leaf in objective.grad(params).items()}, state, {}

    assert said(members, regularizer=mine(grads)) == (
        f"regularizer 'mine': its gradient for 'linear1.weight' is {kind}, and the parameter is float32; return it as "
        "the parameter is"
    )


@SIZES
def test_truth_values_and_counts_are_shown_by_their_means(members: int) -> None:
    """As numbers: the sum of two truth values would be a truth value."""

    def grads(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        after = state["seen"] + 1
        return objective.grad(params), {"seen": after}, {"odd": after % 2 == 1, "count": after.long()}

    _, scalars = run(members, mine(grads, seen))
    for name, total in (("odd", 2.0), ("count", 10.0)):
        first, *rest = (each[f"aux/{name}"] for each in scalars)
        assert sum(rest, first).tolist() == [total] * members


@SIZES
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weights_that_a_state_keeps_stay_where_they_were(optimizer: str, members: int) -> None:
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

    population, scalars = run(members, mine(grads, lambda: {"one": torch.zeros(()), "two": torch.zeros(())}))
    assert scalars[3]["aux/one"].tolist() == [3.0] * members
    assert scalars[3]["aux/two"].tolist() == [6.0] * members
    assert population._gradients._trace is not None


@SIZES
def test_what_is_remembered_outside_the_state_is_refused(members: int) -> None:
    """A tensor of the step before in a variable of its own: not replayed with what it was at the first step."""
    kept: dict[str, Tensor] = {}

    def grads(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        before = kept.get("loss", torch.zeros(members))
        kept["loss"] = state["seen"].detach()
        return objective.grad(params), {"seen": state["seen"] + 1}, {"before": before.sum()}

    with pytest.raises(UsageError, match="regularizer 'mine', the network or the loss"):
        run(members, mine(grads, seen))


@SIZES
def test_defects_of_the_first_gradient_are_told_once(members: int, caplog: pytest.LogCaptureFixture) -> None:
    """However many populations a process trains."""

    def broken(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        return objective.grad(params) | {"linear2.bias": params["linear2.bias"] / 0}, state, {}

    def flat(objective: Objective, params: Tree, state: Any, _: Tree) -> Any:
        return {name: 0 * leaf for name, leaf in objective.grad(params).items()}, state, {}

    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for grads in (broken, flat, broken, flat):
            run(members, mine(grads), steps=1)
        run(members, mine(broken)._replace(name="other"), steps=1)
    assert caplog.messages == [
        "regularizer 'mine' gives a gradient for 'linear2.bias' that is not finite in the first step; the run will "
        "diverge",
        "regularizer 'mine' gives a gradient that is zero for all parameters in the first step; is all detached?",
        "regularizer 'other' gives a gradient for 'linear2.bias' that is not finite in the first step; the run will "
        "diverge",
    ]
