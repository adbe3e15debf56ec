"""Adam (arXiv:1412.6980, weight decay added to g) and AdamW (arXiv:1711.05101, decoupled weight decay) of K models.

Their cost is memory traffic: each device gets the version with the fewest passes over memory.
"""

import logging
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hpo.gradients.returns import Cache
from hpo.tree import Tree, broadcast_to, zeros_like
from hpo.user_code.messages import warn_once

log = logging.getLogger(__name__)

State = dict[str, Any]

NAMES = ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon")
BLOCK = 1024  # weights that a group of GPU threads updates


def init(params: Tree) -> State:
    """State before the first step, with moments of 0; leaves [K, ...]."""
    models = len(next(iter(params.values())))
    steps = torch.zeros(models, device=next(iter(params.values())).device)
    return {"step": steps, "mean": zeros_like(params), "square": zeros_like(params)}


def update(decoupled: bool) -> Callable[[Tree, State, Tree, Tree], tuple[Tree, State]]:
    """The in-place update of AdamW (`decoupled`) or Adam."""

    def step(grads: Tree, state: State, params: Tree, hyper: Tree) -> tuple[Tree, State]:
        state["step"] += 1
        device = next(iter(params.values())).device
        leaves = [leaf for tree in (params, state["mean"], state["square"]) for leaf in tree.values()]
        if not all(leaf.is_contiguous() for leaf in leaves):  # both kernels ignore strides
            elementwise(decoupled, grads, state, params, hyper)
        elif device.type == "cpu":
            _by_member(decoupled, grads, state, params, hyper)
        elif all(leaf.dtype == torch.float32 for leaf in leaves) and kernel_works(device):
            by_kernel(decoupled, grads, state, params, hyper)
        else:
            elementwise(decoupled, grads, state, params, hyper)
        return params, state

    return step


def _by_member(decoupled: bool, grads: Tree, state: State, params: Tree, hyper: Tree) -> None:
    """PyTorch's fused CPU kernel, one call a model because it takes one learning rate: one pass over memory, not ten.

    The kernel ignores strides, so gradients are made contiguous first; all else must be contiguous.
    """
    fused = torch._fused_adamw_ if decoupled else torch._fused_adam_
    leaves = [*params.values(), *state["mean"].values(), *state["square"].values()]
    cache = state.get("rows")  # views of tensors that are updated in place: created once
    if cache is None or not all(map(operator.is_, cache.content[0], leaves)):
        cache = state["rows"] = Cache((leaves, _rows(params, state["mean"], state["square"])))
    (gradients,) = zip(*_rows({name: grads[name].contiguous() for name in params}), strict=True)
    steps = state["step"].unbind(0)
    values = zip(*(hyper[name].tolist() for name in NAMES), strict=True)
    for rows, gradient, step, value in zip(cache.content[1], gradients, steps, values, strict=True):
        rate, decay, beta1, beta2, epsilon = value
        fused(
            rows[0], gradient, rows[1], rows[2], [], [step] * len(gradient),
            lr=rate, beta1=beta1, beta2=beta2, weight_decay=decay, eps=epsilon, amsgrad=False, maximize=False,
        )  # fmt: skip


def _rows(*trees: Tree) -> list[list[list[Tensor]]]:
    """For every model, its row of each tree's leaves as a list."""
    leaves = [[leaf.unbind(0) for leaf in tree.values()] for tree in trees]
    members = len(leaves[0][0])
    return [[[leaf[member] for leaf in tree] for tree in leaves] for member in range(members)]


def elementwise(decoupled: bool, grads: Tree, state: State, params: Tree, hyper: Tree) -> None:
    """The update of all K models at once, in elementary operations for any device."""
    for name, weights in params.items():
        rate, decay, beta1, beta2, epsilon = (broadcast_to(hyper[key], weights) for key in NAMES)
        step = broadcast_to(state["step"], weights)
        gradient = grads[name]
        if decoupled:
            weights.mul_(1 - rate * decay)
        else:
            gradient = torch.addcmul(gradient, decay, weights)
        mean = state["mean"][name].lerp_(gradient, 1 - beta1)
        square = state["square"][name].mul_(beta2).addcmul_(gradient * (1 - beta2), gradient)
        divisor = (square / (1 - beta2**step)).sqrt_().add_(epsilon)
        weights.addcdiv_(mean * (-rate / (1 - beta1**step)), divisor)


def by_kernel(decoupled: bool, grads: Tree, state: State, params: Tree, hyper: Tree) -> None:
    """The update by a Triton kernel, which reads weights, gradient and moments once and writes three of them.

    These 7 passes over memory are the minimum; elementary operations take about 25, and PyTorch's fused kernel has one
    learning rate for all models.
    """
    from hpo.optim import adam_triton

    values = factors(decoupled, state["step"], hyper)
    for name, weights in params.items():
        count = weights[0].numel()
        arrays = weights, grads[name].contiguous(), state["mean"][name], state["square"][name]
        adam_triton.update[-(-count // BLOCK), len(weights)](*arrays, values, count, decoupled, BLOCK)


def factors(decoupled: bool, step: Tensor, hyper: Tree) -> Tensor:
    """The kernel's factors of each model, float32 [K, 7]; computed in float64 because 1 − βᵗ loses digits at first."""
    rate, decay, beta1, beta2, epsilon = (hyper[name].double() for name in NAMES)
    keep = 1 - rate * decay if decoupled else torch.ones_like(rate)
    size = rate / (1 - beta1 ** step.double())
    spread = (1 - beta2 ** step.double()) ** -0.5
    return torch.stack([keep, decay, beta1, beta2, size, spread, epsilon], 1).float()


@cache
def kernel_works(device: torch.device) -> bool:
    """Whether Triton is installed, compiles the kernel for this GPU, and agrees with the elementary operations."""
    names = zip(NAMES, (0.1, 0.2, 0.9, 0.99, 1e-3), strict=True)
    hyper = {name: torch.tensor([value, value / 2], device=device) for name, value in names}
    weights = torch.linspace(-1, 1, 2 * 1500, device=device).reshape(2, 1500)
    result, expected = ({"w": weights.clone()} for _ in range(2))
    try:
        for tree, method in ((result, by_kernel), (expected, elementwise)):
            state = init(tree) | {"step": torch.tensor([1.0, 3.0], device=device)}
            method(True, {"w": weights.flip(1)}, state, tree, hyper)
        return torch.allclose(result["w"], expected["w"], rtol=1e-4, atol=1e-5)
    except Exception as error:  # a compiler that is missing or too old for the GPU may raise anything
        if not isinstance(error, ModuleNotFoundError):
            warn_once(f"Adam uses slower elementary operations because Triton failed: {error}")
        log.info("no Triton kernel: %s", error)
        return False
