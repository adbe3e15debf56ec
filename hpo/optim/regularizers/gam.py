"""GAM, gradient norm aware minimization (Zhang et al., arXiv:2303.03108), accelerated, as in its authors' code.

    g0 = g(w)                          g1 = g(w + ρ′ g0/‖g0‖)        h = g1 − g0
    g2 = g(w₂), w₂ = w + ρ h/‖h‖       g3 = g(w₂ + ρ′ g2/‖g2‖)
    m = g0 + |1 − β| g2                v = α g1 + (1 − α) g3
    result = v − γ (m − (m·v/‖v‖²) v)

`gam` follows the code, xxgege/GAM, where β is described as the scale of g0 but does not scale it; `gam_paper` follows
the paper, whose algorithm 2 has m = β g0 + (1 − β) g2 in line 14. `gam_adaptive` follows the code's `adaptive`: its
three steps are scaled by the parameters at which they start, from w to w + ρ w² d/‖|w| d‖. 1e-12 is added to every
norm in a denominator.

In the code ρ is `grad_norm_rho`, ρ′ `grad_rho`, α `grad_beta_1`, β `grad_beta_0`, γ `grad_gamma`.
"""

from collections.abc import Callable

from torch import Tensor

from hpo.gradients.objective import Objective
from hpo.optim.regularizer import Regularizer
from hpo.search_space import linear_range, log_range
from hpo.tree import TINY, Tree, adaptive_normalized_step, add_scaled, dot, lerp, norm, normalized_step, subtract

RADII = {"rho": log_range(0.02, 0.5, off="low"), "rho_prime": log_range(0.01, 0.5, off="low")}
# Ten times GAM's, as ASAM's radius is ten times SAM's; no values are published.
ADAPTIVE_RADII = {"rho": log_range(0.2, 5, off="low"), "rho_prime": log_range(0.1, 5, off="low")}
WEIGHTS = {"alpha": linear_range(0, 1), "beta": linear_range(0, 1), "gamma": log_range(0.01, 0.5, off="low")}


def _gam(
    step: Callable[[Tree, Tensor, Tree], Tree] = normalized_step, paper: bool = False
) -> Callable[..., tuple[Tree, Tree, Tree]]:
    def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
        g0 = objective.grad(params)
        g1 = objective.grad(step(params, hyper["rho_prime"], g0))
        ascended = step(params, hyper["rho"], subtract(g1, g0))
        g2 = objective.grad(ascended)
        g3 = objective.grad(step(ascended, hyper["rho_prime"], g2))
        beta = hyper["beta"]
        mixed = lerp(g2, g0, beta) if paper else add_scaled(g0, (1 - beta).abs(), g2)
        descent = lerp(g3, g1, hyper["alpha"])
        # v − γ (m − (m·v/‖v‖²) v) with the two factors of v combined, which saves a pass.
        mixed_norm, descent_norm = norm(mixed), norm(descent)
        cosine = dot(mixed, descent) / (mixed_norm * descent_norm + TINY)
        factor = 1 + hyper["gamma"] * (cosine * mixed_norm / (descent_norm + TINY))
        result = {name: factor * descent[name] - hyper["gamma"] * mixed[name] for name in descent}
        return result, state, {"gradient_norm": norm(g0)}

    return grads


gam = Regularizer("gam", _gam(), RADII | WEIGHTS)
gam_paper = Regularizer("gam_paper", _gam(paper=True), RADII | WEIGHTS)
gam_adaptive = Regularizer("gam_adaptive", _gam(adaptive_normalized_step), ADAPTIVE_RADII | WEIGHTS)
