"""GNVR, gradient norm variance regularization: mean loss + λ · Var_i(‖g_i‖).

The variance divides by N − 1, and ‖g_i‖ = sqrt(‖g_i‖² + 1e-8) over all parameters, as in the published script.
The penalty of a single sample, such as a last batch of one, is 0.
"""

import torch
from torch import Tensor

from hpo.gradients.objective import Objective
from hpo.optim.regularizer import Regularizer
from hpo.search_space import log_range
from hpo.tree import Tree

EPSILON = 1e-8


def _grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    def penalty(at: Tree) -> Tensor:
        norms = objective.sample_grad_norms(at, epsilon=EPSILON)
        variance = norms.var(correction=1) if len(norms) > 1 else torch.zeros_like(norms[0])
        return hyper["lambda"] * variance

    gradient, value = objective.penalised_grad(params, penalty)
    return gradient, state, {"penalty": value}


gnvr = Regularizer("gnvr", _grads, {"lambda": log_range(1e-3, 10, off="low")}, min_samples=2)
