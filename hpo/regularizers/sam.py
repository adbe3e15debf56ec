"""SAM, sharpness-aware minimization (Foret et al., arXiv:2010.01412): the gradient at w + ρ g/‖g‖."""

from hpo.objective import Objective, Regularizer
from hpo.space import log_range
from hpo.tree import Tree, norm, step_along


def _grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    gradient = objective.grad(params)
    perturbed = step_along(params, hyper["rho"], gradient)
    return objective.grad(perturbed), state, {"gradient_norm": norm(gradient)}


sam = Regularizer("sam", _grads, {"rho": log_range(0.01, 0.5, off="low")})
