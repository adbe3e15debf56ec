"""Adam (arXiv:1412.6980, weight decay added to g) and AdamW (arXiv:1711.05101, weights decayed on their own), on the
stack: in as few passes over memory as the device allows, for that is all that they cost.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hpo.tree import Tree, broadcast_to, zeros_like
from hpo.user_code.messages import warn_once

log = logging.getLogger(__name__)

State = dict[str, Any]

NAMES = ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon")
BLOCK = 1024  # numbers that a group of GPU threads updates


def init(params: Tree) -> State:
    """No steps, and moments of 0; leaves [K, ...]."""
    models = len(next(iter(params.values())))
    steps = torch.zeros(models, device=next(iter(params.values())).device)
    return {"step": steps, "mean": zeros_like(params), "square": zeros_like(params)}


def update(decoupled: bool) -> Callable[[Tree, State, Tree, Tree], tuple[Tree, State]]:
    """The update in place of AdamW (`decoupled`) or Adam."""

    def step(grads: Tree, state: State, params: Tree, hyper: Tree) -> tuple[Tree, State]:
        state["step"] += 1
        device = next(iter(params.values())).device
        if device.type == "cpu":
            _member_by_member(decoupled, grads, state, params, hyper)
        elif _alike(params, state["mean"], state["square"]) and kernel_works(device):
            by_kernel(decoupled, grads, state, params, hyper)
        else:
            elementwise(decoupled, grads, state, params, hyper)
        return params, state

    return step


def _member_by_member(decoupled: bool, grads: Tree, state: State, params: Tree, hyper: Tree) -> None:
    """PyTorch's fused CPU kernel, which takes one learning rate a call: one pass over memory instead of ten.

    The kernel reads memory in order whatever a tensor's strides say, so gradients are made contiguous first.
    """
    fused = torch._fused_adamw_ if decoupled else torch._fused_adam_
    if state.get("_rows_of") is not params:  # views of what is updated in place: made once
        state["_rows_of"], state["_rows"] = params, _rows(params, state["mean"], state["square"])
    (gradients,) = zip(*_rows({name: grads[name].contiguous() for name in params}), strict=True)
    steps = state["step"].unbind(0)
    values = zip(*(hyper[name].tolist() for name in NAMES), strict=True)
    for own, gradient, step, value in zip(state["_rows"], gradients, steps, values, strict=True):
        rate, decay, beta1, beta2, epsilon = value
        fused(
            own[0], gradient, own[1], own[2], [], [step] * len(gradient),
            lr=rate, beta1=beta1, beta2=beta2, weight_decay=decay, eps=epsilon, amsgrad=False, maximize=False,
        )  # fmt: skip


def _rows(*trees: Tree) -> list[list[list[Tensor]]]:
    """For every member, its row of each tree's leaves as a list."""
    leaves = [[leaf.unbind(0) for leaf in tree.values()] for tree in trees]
    members = len(leaves[0][0])
    return [[[leaf[member] for leaf in tree] for tree in leaves] for member in range(members)]


def elementwise(decoupled: bool, grads: Tree, state: State, params: Tree, hyper: Tree) -> None:
    """The update over all K models at once, in elementary operations that run on any device."""
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
    """The update by a Triton kernel: weights, gradient and moments are read once and three of them written.

    That is 7 passes over memory, the least there is; elementary operations take some 25, and PyTorch's fused kernel has
    one learning rate for all models.
    """
    from hpo.optim import adam_triton

    own = factors(decoupled, state["step"], hyper)
    for name, weights in params.items():
        count = weights[0].numel()
        arrays = weights, grads[name].contiguous(), state["mean"][name], state["square"][name]
        adam_triton.update[-(-count // BLOCK), len(weights)](*arrays, own, count, decoupled, BLOCK)


def factors(decoupled: bool, step: Tensor, hyper: Tree) -> Tensor:
    """What the kernel asks of each model, float32 [K, 7]; worked out in float64, for 1 − βᵗ loses digits at first."""
    rate, decay, beta1, beta2, epsilon = (hyper[name].double() for name in NAMES)
    keep = 1 - rate * decay if decoupled else torch.ones_like(rate)
    size = rate / (1 - beta1 ** step.double())
    spread = (1 - beta2 ** step.double()) ** -0.5
    return torch.stack([keep, decay, beta1, beta2, size, spread, epsilon], 1).float()


@cache
def kernel_works(device: torch.device) -> bool:
    """Whether Triton is installed, can make the kernel for this GPU, and gives what the elementary operations give."""
    names = zip(NAMES, (0.1, 0.2, 0.9, 0.99, 1e-3), strict=True)
    hyper = {name: torch.tensor([value, value / 2], device=device) for name, value in names}
    weights = torch.linspace(-1, 1, 2 * 1500, device=device).reshape(2, 1500)
    found, expected = ({"w": weights.clone()} for _ in range(2))
    try:
        for tree, way in ((found, by_kernel), (expected, elementwise)):
            state = init(tree) | {"step": torch.tensor([1.0, 3.0], device=device)}
            way(True, {"w": weights.flip(1)}, state, tree, hyper)
        return torch.allclose(found["w"], expected["w"], rtol=1e-4, atol=1e-5)
    except Exception as error:  # whatever a compiler that is missing, or too old for the GPU, raises
        if not isinstance(error, ModuleNotFoundError):
            warn_once(f"Adam runs in elementary operations, which take longer, because Triton failed: {error}")
        log.info("no Triton kernel: %s", error)
        return False


def _alike(*trees: Tree) -> bool:
    """Whether the kernel takes these leaves: float32, and in memory as they are written."""
    return all(leaf.dtype == torch.float32 and leaf.is_contiguous() for tree in trees for leaf in tree.values())
