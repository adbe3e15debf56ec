"""GAM, gradient norm aware minimization (Zhang et al., arXiv:2303.03108), the accelerated form of its appendix D.

    g0 = g(w)                          g1 = g(w + ρ′ g0/‖g0‖)        h = g1 − g0
    g2 = g(w₂), w₂ = w + ρ h/‖h‖       g3 = g(w₂ + ρ′ g2/‖g2‖)
    m = g0 + |1 − β| g2                v = α g1 + (1 − α) g3
    result = v − γ (m − (m·v/‖v‖²) v)

In the authors' code ρ is `grad_norm_rho`, ρ′ `grad_rho`, α `grad_beta_1`, β `grad_beta_0`, γ `grad_gamma`.
"""

from hpo.objective import Objective, Regularizer
from hpo.space import linear_range, log_range
from hpo.tree import TINY, Tree, add_scaled, dot, lerp, norm, step_along, subtract


def _grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    g0 = objective.grad(params)
    g1 = objective.grad(step_along(params, hyper["rho_prime"], g0))
    ascended = step_along(params, hyper["rho"], subtract(g1, g0))
    g2 = objective.grad(ascended)
    g3 = objective.grad(step_along(ascended, hyper["rho_prime"], g2))
    mixed = add_scaled(g0, (1 - hyper["beta"]).abs(), g2)
    descent = lerp(g3, g1, hyper["alpha"])
    # v − γ (m − (m·v/‖v‖²) v) with the two factors of v taken together: one pass less.
    along = dot(mixed, descent) / (dot(descent, descent) + TINY)
    factor = 1 + hyper["gamma"] * along
    result = {name: factor * descent[name] - hyper["gamma"] * mixed[name] for name in descent}
    return result, state, {"gradient_norm": norm(g0)}


gam = Regularizer(
    "gam",
    _grads,
    {
        "rho": log_range(0.02, 0.5, off="low"),
        "rho_prime": log_range(0.01, 0.5, off="low"),
        "alpha": linear_range(0, 1),
        "beta": linear_range(0, 1),
        "gamma": log_range(0.01, 0.5, off="low"),
    },
)
