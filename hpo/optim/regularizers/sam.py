"""SAM, sharpness-aware minimization (Foret et al., arXiv:2010.01412): the gradient at w + ρ g/(‖g‖ + 1e-12).

ASAM (Kwon et al., arXiv:2102.11600) scales every component by its parameter: the gradient at w + ρ w² g/(‖|w| g‖ +
1e-12). Both as in davda54/sam, where ASAM is called `adaptive`. The code of ASAM's authors adds η = 0.01 to |w|, and
scales only parameters named "weight".
"""

from collections.abc import Callable

from torch import Tensor

from hpo.gradients.objective import Objective
from hpo.optim.regularizer import Regularizer
from hpo.search_space import log_range
from hpo.tree import Tree, adaptive_normalized_step, norm, normalized_step


def _sam(step: Callable[[Tree, Tensor, Tree], Tree]) -> Callable[..., tuple[Tree, Tree, Tree]]:
    def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
        gradient = objective.grad(params)
        perturbed = step(params, hyper["rho"], gradient)
        return objective.grad(perturbed), state, {"gradient_norm": norm(gradient)}

    return grads


sam = Regularizer("sam", _sam(normalized_step), {"rho": log_range(0.01, 0.5, off="low")})
# Ten times SAM's; published values are 0.5 (CIFAR-10), 1.0 (CIFAR-100) and, in davda54/sam, 2.0.
asam = Regularizer("asam", _sam(adaptive_normalized_step), {"rho": log_range(0.1, 5, off="low")})
