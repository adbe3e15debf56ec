"""GVR, gradient variance reduction: L₁ + L₂ + α ‖∇L₁ − ∇L₂‖², the losses of two augmented views of a minibatch.

The penalty's gradients are taken with respect to the last layer (the text) or further layers (the authors' code), each
over its own 32 samples of the batch: the first for one view and the last for the other, which is random where the order
of the samples is.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo.objective import Objective, Regularizer
from hpo.space import log_range
from hpo.tree import Tree

SAMPLES = 32


def gvr_over(layers: Sequence[str] = (), samples: int = SAMPLES, name: str = "gvr") -> Regularizer:
    """GVR with its own layers (names of submodules; by default the last Linear) and samples of a penalty gradient."""

    def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
        def total(at: Tree) -> tuple[Tensor, Tree]:
            first = objective.last_layer_grad(at, 0, layers, slice(None, samples))
            second = objective.last_layer_grad(at, 1, layers, slice(-samples, None))
            distance = torch.stack([(first[leaf] - second[leaf]).square().sum() for leaf in first]).sum()
            penalty = hyper["alpha"] * distance
            return objective.loss(at, 0) + objective.loss(at, 1) + penalty, {"penalty": penalty}

        gradient, scalars = objective.grad_of(total, params)
        return gradient, state, scalars

    return Regularizer(name, grads, {"alpha": log_range(1e-4, 1, off="low")}, views=2)


gvr = gvr_over()
