"""ROGC, robust outlier-based gradient clipping: per-sample clipping at Tukey's fence of the batch's gradient norms.

τ = Q3 + k (Q3 − Q1), quartiles of ‖g_i‖ by linear interpolation; each g_i is scaled by min(1, τ/(‖g_i‖ + 1e-8)).
"""

from torch import Tensor

from hpo.gradients.objective import Objective
from hpo.optim.regularizer import Regularizer
from hpo.search_space import linear_range
from hpo.tree import Tree, clip_factors


def _quantile(ordered: Tensor, share: float) -> Tensor:
    """Quantile [] of ascending values [N] by linear interpolation (`torch.quantile` has no rule under vmap)."""
    position = share * (len(ordered) - 1)
    below = int(position)
    return ordered[below].lerp(ordered[min(below + 1, len(ordered) - 1)], position - below)


def _grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    norms = objective.sample_grad_norms(params)
    ordered = norms.sort().values
    lower, upper = _quantile(ordered, 0.25), _quantile(ordered, 0.75)
    fence = upper + hyper["k"] * (upper - lower)
    factors = clip_factors(norms, fence)
    gradient = objective.weighted_grad(params, factors)
    return gradient, state, {"clipped": (factors < 1).to(factors.dtype).mean(), "fence": fence}


rogc = Regularizer("rogc", _grads, {"k": linear_range(0, 5, off="high")})
