"""SGSC, soft gradient sign consistency: every component of g times |mean_i sign(g_i)|^γ.

γ = 0 leaves g unchanged, also where the mean sign is 0 (0⁰ = 1).
"""

import torch

from hpo.gradients.objective import Objective
from hpo.optim.regularizer import Regularizer
from hpo.search_space import linear_range
from hpo.tree import Tree


def _grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    signs = objective.sign_mean(params)
    gradient = objective.mean_grad(params)
    consistency = {name: sign.abs() for name, sign in signs.items()}
    total = torch.stack([leaf.sum() for leaf in consistency.values()]).sum()
    scaled = {name: gradient[name] * leaf.pow(hyper["gamma"]) for name, leaf in consistency.items()}
    return scaled, state, {"consistency": total / sum(leaf.numel() for leaf in consistency.values())}


sgsc = Regularizer("sgsc", _grads, {"gamma": linear_range(0, 3, off="low")})
