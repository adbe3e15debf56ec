"""GVR, gradient variance reduction: L₁ + L₂ + α ‖∇L₁ − ∇L₂‖², the losses of two augmented views of a minibatch.

`gvr` is the authors' code (Habibu-Ahmad/Gradient-Variance-Reduction): the penalty's gradients are those of one random
subset of 32 samples, the same in both views, each in a forward pass of its own; the first 32 of the minibatch, whose
order is random. With respect to the layers of the last stage and the classifier in the code, of the last Linear here
unless `gvr_over` names others. `gvr_independent` is the authors' text, "the views are subsampled independently": 32
samples for each view, so that the penalty holds the variance of sampling as well.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo.gradients.objective import Objective
from hpo.optim.regularizer import Regularizer
from hpo.search_space import log_range
from hpo.tree import Tree

SAMPLES = 32


def gvr_over(layers: Sequence[str] = (), samples: int = SAMPLES, independent: bool = False) -> Regularizer:
    """GVR with its own layers, by their names in the network, and its own number of samples of a penalty gradient.

    Args:
        layers: as in `Objective.last_layer_grad`. For `ResNet18` the authors' are "blocks.6", "blocks.7" and "linear".
        independent: whether the second view's samples are others, the last of the minibatch.
    """
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    # The name is all that a study's definition says about a regularizer of ours.
    chosen = ", ".join([*layers, *([] if samples == SAMPLES else [f"{samples} samples"])])
    name = ("gvr_independent" if independent else "gvr") + (f"({chosen})" if chosen else "")
    shares = slice(samples), slice(-samples, None) if independent else slice(samples)

    def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
        parts = [objective.subset(share) for share in shares]

        def total(at: Tree) -> tuple[Tensor, Tree]:
            losses = objective.loss(at, 0) + objective.loss(at, 1)
            first, second = (part.last_layer_grad(at, view, layers) for view, part in enumerate(parts))
            distance = torch.stack([(first[leaf] - second[leaf]).square().sum() for leaf in first]).sum()
            penalty = hyper["alpha"] * distance
            return losses + penalty, {"penalty": penalty}

        gradient, scalars = objective.grad_of(total, params)
        return gradient, state, scalars

    return Regularizer(name, grads, {"alpha": log_range(1e-4, 1, off="low")}, views=2)


gvr = gvr_over()
gvr_independent = gvr_over(independent=True)
