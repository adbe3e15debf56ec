"""Gradient clipping: of the batch gradient (Pascanu et al., arXiv:1211.5063), and of every sample's gradient
(Abadi et al., arXiv:1607.00133, without their noise), at a fixed threshold c.
"""

from hpo.objective import Objective, Regularizer
from hpo.space import log_range
from hpo.tree import TINY, Tree, norm, scale

# Added to a norm before it divides the threshold, as in the published ROGC script.
EPSILON = 1e-8


def _global(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    gradient = objective.grad(params)
    factor = (hyper["clip"] / (norm(gradient) + TINY)).clamp(max=1.0)
    return scale(factor, gradient), state, {"clipped": (factor < 1).to(factor.dtype)}


def _sample(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    factors = (hyper["clip"] / (objective.sample_grad_norms(params) + EPSILON)).clamp(max=1.0)
    gradient = objective.weighted_grad(params, factors)
    return gradient, state, {"clipped": (factors < 1).to(factors.dtype).mean()}


CLIP = log_range(0.1, 10, off="high")
clip_global = Regularizer("clip_global", _global, {"clip": CLIP})
clip_sample = Regularizer("clip_sample", _sample, {"clip": CLIP})
