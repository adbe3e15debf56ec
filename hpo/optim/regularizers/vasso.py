"""VaSSO, variance-suppressed sharpness-aware optimization (Li & Giannakis, arXiv:2309.15639).

SAM whose direction is a running mean: d ← (1 − θ) d + θ g, starting with d = g; the gradient at w + ρ d/(‖d‖ + 1e-7),
as in BingcongLi/VaSSO. θ = 1 is SAM except for the 1e-7.
"""

import torch

from hpo.gradients.objective import Objective
from hpo.optim.regularizer import Regularizer, State
from hpo.search_space import linear_range, log_range
from hpo.tree import Tree, lerp, norm, normalized_step, zeros_like

EPSILON = 1e-7


def _init(params: Tree) -> State:
    return {"direction": zeros_like(params), "started": torch.zeros_like(next(iter(params.values())).sum())}


def _grads(objective: Objective, params: Tree, state: State, hyper: Tree) -> tuple[Tree, State, Tree]:
    gradient = objective.grad(params)
    share = torch.where(state["started"] > 0, hyper["theta"], torch.ones_like(hyper["theta"]))
    direction = lerp(state["direction"], gradient, share)
    perturbed = normalized_step(params, hyper["rho"], direction, EPSILON)
    state = {"direction": direction, "started": torch.ones_like(state["started"])}
    return objective.grad(perturbed), state, {"direction_norm": norm(direction)}


vasso = Regularizer(
    "vasso", _grads, {"rho": log_range(0.01, 0.5, off="low"), "theta": linear_range(0.1, 1, off="high")}, init=_init
)
