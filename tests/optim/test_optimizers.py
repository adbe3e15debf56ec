"""Every optimizer of stacked models against torch.optim, and schedules by hand."""

import math
import re
import warnings
from typing import Any

import pytest
import references
import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.optim import adam, optimizers
from hpo.optim.optimizers import OPTIMIZERS, Optimizer, per_model
from hpo.optim.schedules import Constant, Cosine, Linear, MultiStep
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

MEMBERS, STEPS = 3, 6
SHAPES = {"first.weight": (4, 3), "first.bias": (4,), "scale": ()}
# Of members 0, 1 and 2, with the extremes in use.
VALUES = {
    "learning_rate": (1e-3, 0.05, 0.3),
    "weight_decay": (0.0, 1e-2, 0.1),
    "momentum": (0.9, 0.0, 0.5),
    "beta1": (0.9, 0.8, 0.0),
    "beta2": (0.999, 0.9, 0.99),
    "epsilon": (1e-8, 1e-6, 1e-3),
}
# PyTorch's `nesterov` requires a momentum.
NESTEROV = {"momentum": (0.9, 0.3, 0.5)}


def values_of(optimizer: Optimizer) -> dict[str, tuple[float, ...]]:
    values = VALUES | (NESTEROV if optimizer.name == "nesterov" else {})
    return {name: values[name] for name in optimizer.hyperparameters}


def stacked(seed: int, dtype: torch.dtype = torch.float64) -> Tree:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(MEMBERS, *shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, shape in SHAPES.items()
    }


def run(optimizer: Optimizer, dtype: torch.dtype = torch.float64) -> Tree:
    """Parameters after a few steps with random gradients of very different sizes."""
    params = stacked(seed=1, dtype=dtype)
    state = optimizer.init(params)
    hyper = {name: torch.tensor(values, dtype=dtype) for name, values in values_of(optimizer).items()}
    for step in range(STEPS):
        grads = {name: leaf * 10.0 ** (step - 3) for name, leaf in stacked(100 + step, dtype).items()}
        params, state = optimizer.update(grads, state, params, hyper)
    return params


def assert_trees_close(actual: Tree, expected: Tree, relative: float = 1e-12) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=relative, atol=relative, msg=name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_torch_optim_for_every_member(name: str) -> None:
    assert name in references.OPTIMIZERS, f"optimizer {name!r} has no slow version in tests/support/references.py"
    optimizer = OPTIMIZERS[name]
    actual = run(optimizer)
    for member in range(MEMBERS):
        member_params = {key: leaf[member].clone().requires_grad_() for key, leaf in stacked(seed=1).items()}
        hyper = {key: values[member] for key, values in values_of(optimizer).items()}
        stepper = references.OPTIMIZERS[name](list(member_params.values()), hyper)
        for step in range(STEPS):
            for key, leaf in stacked(100 + step).items():
                member_params[key].grad = leaf[member] * 10.0 ** (step - 3)
            stepper.step()
        assert_trees_close({key: leaf[member] for key, leaf in actual.items()}, member_params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_may_have_any_strides(name: str) -> None:
    """Autograd or vmap may return a gradient transposed in memory."""
    optimizer, results = OPTIMIZERS[name], []
    hyper = {key: torch.tensor(values, dtype=torch.float64) for key, values in values_of(optimizer).items()}
    for transposed in (False, True):
        grads = stacked(seed=2)
        if transposed:
            grads["first.weight"] = grads["first.weight"].transpose(0, 2).contiguous().transpose(0, 2)
        assert grads["first.weight"].is_contiguous() is not transposed
        params = stacked(seed=1)
        results.append(optimizer.update(grads, optimizer.init(params), params, hyper)[0])
    assert_trees_close(results[1], results[0], 1e-15)


def transposed(tree: Tree) -> Tree:
    """The same values, with the leaves of two axes transposed in memory."""
    return {name: leaf.mT.contiguous().mT if leaf.dim() > 2 else leaf.clone() for name, leaf in tree.items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("state_as_well", [False, True])
def test_parameters_may_have_any_strides(name: str, state_as_well: bool) -> None:
    """As `after` of a wrapped optimizer may return them: torch.linalg.qr gives columns that are contiguous."""
    optimizer, results = OPTIMIZERS[name], []
    hyper = {key: torch.tensor(values, dtype=torch.float64) for key, values in values_of(optimizer).items()}
    for change in (dict, transposed):
        params = change(stacked(seed=1))
        state = optimizer.init(params if state_as_well else stacked(seed=1))
        for step in range(3):
            params, state = optimizer.update(stacked(seed=2 + step), state, params, hyper)
            params = change(params)
        results.append(params)
    assert not results[1]["first.weight"].is_contiguous()
    assert_trees_close(results[1], results[0], 1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_may_be_used_with_other_parameters(name: str) -> None:
    """As after a checkpoint: the state must not keep views of the tensors that it was last used with."""
    optimizer = OPTIMIZERS[name]
    hyper = {key: torch.tensor(values, dtype=torch.float64) for key, values in values_of(optimizer).items()}
    first, second = stacked(seed=1), stacked(seed=1)
    state = optimizer.init(first)
    for params in (first, second):
        optimizer.update(stacked(seed=2), state, params, hyper)
    assert all(not torch.equal(second[key], leaf) for key, leaf in stacked(seed=1).items())


def test_every_optimizer_has_a_slow_version() -> None:
    assert set(OPTIMIZERS) == set(references.OPTIMIZERS)
    assert all("learning_rate" in optimizer.hyperparameters for optimizer in OPTIMIZERS.values())


@pytest.mark.parametrize(("name", "decoupled"), [("adam", False), ("adamw", True)])
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_the_elementary_operations_equal_the_fused_kernel(
    name: str, decoupled: bool, dtype: torch.dtype, relative: float
) -> None:
    """The code for GPUs, run on the CPU."""

    def update(grads: Tree, state: optimizers.State, params: Tree, hyper: Tree) -> tuple[Tree, optimizers.State]:
        state["step"] += 1
        adam.elementwise(decoupled, grads, state, params, hyper)
        return params, state

    elementary = OPTIMIZERS[name]._replace(update=update)
    assert_trees_close(run(elementary, dtype), run(OPTIMIZERS[name], dtype), relative)


def adamw_init(params: Tree) -> dict[str, Tree | Tensor]:
    zeros = {name: torch.zeros_like(leaf) for name, leaf in params.items()}
    return {"step": torch.zeros((), dtype=torch.float64), "mean": zeros, "square": zeros}


def adamw_update(grads: Tree, state: dict, params: Tree, hyper: Tree) -> tuple[Tree, dict]:
    beta1, beta2, step = hyper["beta1"], hyper["beta2"], state["step"] + 1
    mean = {name: beta1 * state["mean"][name] + (1 - beta1) * grads[name] for name in params}
    square = {name: beta2 * state["square"][name] + (1 - beta2) * grads[name] ** 2 for name in params}
    moved = {}
    for name, leaf in params.items():
        kept = leaf * (1 - hyper["learning_rate"] * hyper["weight_decay"])
        root = (square[name] / (1 - beta2**step)).sqrt() + hyper["epsilon"]
        moved[name] = kept - hyper["learning_rate"] * mean[name] / (1 - beta1**step) / root
    return moved, {"step": step, "mean": mean, "square": square}


def test_an_optimizer_for_one_model_is_lifted() -> None:
    lifted = per_model("my adamw", adamw_init, adamw_update, OPTIMIZERS["adamw"].hyperparameters)
    assert lifted.name == "my adamw"
    assert_trees_close(run(lifted), run(OPTIMIZERS["adamw"]))


SCHEDULES: list[tuple[Any, int, int, list[float]]] = [  # schedule, steps, steps an epoch, factors
    (Constant(), 10, 5, [1.0] * 10),
    (Constant(warmup_epochs=0.5), 10, 5, [0.4, 0.8] + [1.0] * 8),
    (Cosine(2), 16, 4, [k / 8 for k in range(1, 9)] + [(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]),
    (Cosine(warmup_epochs=4), 4, 2, [1 / 8, 2 / 8, 3 / 8, 4 / 8]),  # a warm-up longer than the run
    (MultiStep((0.5, 0.85)), 20, 2, [1.0] * 10 + [0.1] * 7 + [0.01] * 3),
    (MultiStep((2, 8), factor=0.5), 20, 2, [1.0] * 4 + [0.5] * 12 + [0.25] * 4),
    (MultiStep((0.7,)), 10, 1, [1.0] * 7 + [0.1] * 3),  # 0.7 · 10 is a little more than 7 in floating point,
    (MultiStep((0.29,)), 100, 1, [1.0] * 29 + [0.1] * 71),  # and 0.29 · 100 a little less than 29
    (MultiStep((1, 3), 0.5, 2), 8, 2, [0.25, 0.5, 0.75 * 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]),
]


@pytest.mark.parametrize(("schedule", "steps", "per_epoch", "expected"), SCHEDULES, ids=str)
def test_schedules_by_hand(schedule: Any, steps: int, per_epoch: int, expected: list[float]) -> None:
    assert [schedule(step, steps, per_epoch) for step in range(steps)] == pytest.approx(expected)


def test_cosine_schedule_equals_pytorchs() -> None:
    steps = 12
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        assert Cosine()(step, steps, 4) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_multi_step_schedule_equals_pytorchs() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5, 8], gamma=0.2)
    for epoch in range(10):
        for schedule in (MultiStep((3, 5, 8), factor=0.2), MultiStep((0.3, 0.5, 0.8), factor=0.2)):
            actual = [schedule(4 * epoch + step, 40, 4) for step in range(4)]
            assert actual == pytest.approx(scheduler.get_last_lr() * 4, rel=1e-12)
        optimizer.step()
        scheduler.step()


def rates_by_epoch(make: Any, epochs: int) -> list[float]:
    """The learning rates of a scheduler of PyTorch that steps after each epoch; the rate itself is 0.4."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    scheduler, rates = make(optimizer), []
    for _ in range(epochs):
        rates += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    return rates


def test_schedules_by_epoch_equal_pytorchs() -> None:
    """CosineAnnealingLR with eta_min, and LinearLR before it, as one schedule of fractions of the rate 0.4."""
    torch_schedulers = torch.optim.lr_scheduler
    cosine = rates_by_epoch(lambda optimizer: torch_schedulers.CosineAnnealingLR(optimizer, 10, eta_min=0.1), 10)
    schedule = Cosine(end=0.25, by_epoch=True)
    assert [0.4 * schedule(3 * epoch + 2, 30, 3) for epoch in range(10)] == pytest.approx(cosine, rel=1e-12)

    def warmed_up(optimizer: torch.optim.Optimizer) -> Any:
        parts = [torch_schedulers.LinearLR(optimizer, 0.5, 1.0, 4), torch_schedulers.CosineAnnealingLR(optimizer, 6)]
        return torch_schedulers.SequentialLR(optimizer, parts, [4])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own SequentialLR calls step with an epoch, which it deprecates
        expected = rates_by_epoch(warmed_up, 10)
    schedule = Cosine(warmup_epochs=4, warmup_start=0.5, by_epoch=True)
    assert [0.4 * schedule(3 * epoch + 1, 30, 3) for epoch in range(10)] == pytest.approx(expected, abs=1e-12)


def vasso_rate(epoch: int, milestones: tuple[int, ...] = ()) -> float:
    """The rate 0.4 in VaSSO's schedulers, in one of 20 epochs: 5 of warm-up, then a cosine or steps by 0.2."""
    start, end, warmup = 0.04, 0.02, 5
    if epoch < warmup:
        return start + epoch * (0.4 - start) / warmup
    if milestones:
        return 0.4 * 0.2 ** sum(epoch > milestone for milestone in milestones)
    return end + (0.4 - end) * (1 + math.cos(math.pi * (epoch - warmup) / (20 - warmup))) / 2


def test_vassos_schedules() -> None:
    """Its cosine and warm-up as they are, and its steps one epoch after each milestone."""
    cosine = Cosine(warmup_epochs=5, end=0.05, warmup_start=0.1, by_epoch=True)
    steps = MultiStep((13, 17), factor=0.2, warmup_epochs=5, warmup_start=0.1, by_epoch=True)
    for epoch in range(20):
        expected = vasso_rate(epoch)
        assert 0.4 * cosine(8 * epoch + 7, 160, 8) == pytest.approx(expected, rel=1e-12)
        expected = vasso_rate(epoch, (12, 16))
        assert 0.4 * steps(8 * epoch + 7, 160, 8) == pytest.approx(expected, rel=1e-12)


def test_vassos_program_lets_the_rate_fall_two_epochs_after_a_milestone() -> None:
    """It trains an epoch before it sets that epoch's rate."""
    rate, schedule = 0.4, MultiStep((14, 18), factor=0.2, by_epoch=True)
    for epoch in range(20):
        assert 0.4 * schedule(8 * epoch + 7, 160, 8) == pytest.approx(rate, rel=1e-12)
        rate = 0.4 * 0.2 ** sum(epoch > milestone for milestone in (12, 16))


def test_the_step_schedule_of_davda54s_sam() -> None:
    """Falls to a fifth after 30, 60 and 80% of the epochs."""
    schedule = MultiStep((0.3, 0.6, 0.8), factor=0.2, by_epoch=True)
    for epoch in range(20):
        falls = sum(epoch >= 20 * share / 10 for share in (3, 6, 8))
        assert schedule(5 * epoch + 4, 100, 5) == pytest.approx(0.2**falls)


@pytest.mark.parametrize(
    ("schedule", "fields"),
    [
        (Constant, {"warmup_start": -0.1}),
        (MultiStep, {"milestones": ()}),
        (MultiStep, {"milestones": (0.75, 0.5)}),
        (MultiStep, {"milestones": (0.5, 0.5)}),
        (MultiStep, {"milestones": (0, 0.5)}),
        (MultiStep, {"milestones": (0.5, 60)}),
        (MultiStep, {"factor": 0}),
        (MultiStep, {"factor": 1.5}),
        *((schedule, {"warmup_epochs": -1}) for schedule in (Constant, Cosine, MultiStep)),
    ],
)
def test_invalid_schedules_are_refused(schedule: type, fields: dict[str, Any]) -> None:
    [(name, value)] = fields.items()
    with pytest.raises(UsageError, match=re.escape(f"schedule: {name} is {value!r}; give ")):
        schedule(**fields)


def test_linear_and_cosine_schedules_end_where_they_are_told() -> None:
    assert [Linear()(step, 4, 2) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [Linear(0, 1)(step, 4, 2) for step in range(4)] == [0.0, 0.25, 0.5, 0.75]
    assert [Linear(2, 1, warmup_epochs=1)(step, 6, 2) for step in range(6)] == [1.0, 2.0, 2.0, 1.75, 1.5, 1.25]
    for step in range(8):
        assert Cosine(end=0.2)(step, 8, 2) == pytest.approx(0.2 + 0.8 * Cosine()(step, 8, 2))
