"""VaSSO, variance-suppressed sharpness-aware optimization (Li & Giannakis, arXiv:2309.15639).

SAM whose direction is a running mean: d ← (1 − θ) d + θ g, d beginning as the first g; the gradient at w + ρ d/‖d‖.
θ = 1 is SAM.
"""

import torch

from hpo.objective import Objective, Regularizer
from hpo.space import linear_range, log_range
from hpo.tree import Tree, norm, step_along, zeros_like


def _init(params: Tree) -> Tree:
    first = next(iter(params.values()))
    # A state is one dict of tensors; no parameter's name is empty, so "" can hold whether d has begun.
    return {**zeros_like(params), "": torch.zeros((), dtype=first.dtype, device=first.device)}


def _grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    gradient = objective.grad(params)
    share = torch.where(state[""] > 0, hyper["theta"], torch.ones_like(hyper["theta"]))
    direction = {name: state[name].lerp(leaf, share) for name, leaf in gradient.items()}
    perturbed = step_along(params, hyper["rho"], direction)
    begun = {"": torch.ones_like(state[""])}
    return objective.grad(perturbed), {**direction, **begun}, {"direction_norm": norm(direction)}


vasso = Regularizer(
    "vasso",
    _grads,
    {"rho": log_range(0.01, 0.5, off="low"), "theta": linear_range(0.1, 1, off="high")},
    init=_init,
)
