"""GVR, gradient variance reduction: L₁ + L₂ + α ‖∇L₁ − ∇L₂‖², the losses of two augmented views of a minibatch.

`gvr` follows the authors' code (Habibu-Ahmad/Gradient-Variance-Reduction): the penalty's gradients are computed on a
random subset of 32 samples, the same in both views, each in its own forward pass; here the first 32 of the minibatch,
whose order is random. In the code they are with respect to the layers of the last stage and the classifier, here to
the last Linear layer unless `gvr_over` names others. `gvr_independent` follows the authors' text, "the views are
subsampled independently": each view has its own 32 samples, so that the penalty includes the variance of sampling.
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
    """GVR over chosen layers, by their names in the network, with a chosen number of samples for the penalty.

    Args:
        layers: as in `Objective.last_layer_grad`. For `ResNet(18)` the authors' are "blocks.6", "blocks.7" and
            "linear".
        independent: whether the second view has other samples: the last of the minibatch.
    """
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    # A study's definition describes a built-in regularizer by its name only.
    chosen = ", ".join([*layers, *([] if samples == SAMPLES else [f"{samples} samples"])])
    name = ("gvr_independent" if independent else "gvr") + (f"({chosen})" if chosen else "")
    subsets = slice(samples), slice(-samples, None) if independent else slice(samples)

    def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
        parts = [objective.subset(samples) for samples in subsets]

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
