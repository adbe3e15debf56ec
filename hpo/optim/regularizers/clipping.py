"""Gradient clipping at a fixed threshold c, of the batch gradient (Pascanu et al., arXiv:1211.5063) or of every
sample's gradient (Abadi et al., arXiv:1607.00133, without their noise).

    the batch gradient becomes g · min(1, c/(‖g‖ + 1e-6)), as in `torch.nn.utils.clip_grad_norm_`
    with samples' gradients it is the mean of g_i · min(1, c/(‖g_i‖ + 1e-8))
"""

from hpo.gradients.objective import Objective
from hpo.optim.regularizer import Regularizer
from hpo.search_space import log_range
from hpo.tree import Tree, clip_factors, norm, scale

EPSILON = 1e-6


def _global(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    gradient = objective.grad(params)
    factor = clip_factors(norm(gradient), hyper["clip"], EPSILON)
    return scale(factor, gradient), state, {"clipped": (factor < 1).to(factor.dtype)}


def _sample(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    factors = clip_factors(objective.sample_grad_norms(params), hyper["clip"])
    gradient = objective.weighted_grad(params, factors)
    return gradient, state, {"clipped": (factors < 1).to(factors.dtype).mean()}


CLIP = log_range(0.1, 10, off="high")
clip_global = Regularizer("clip_global", _global, {"clip": CLIP})
clip_sample = Regularizer("clip_sample", _sample, {"clip": CLIP})
