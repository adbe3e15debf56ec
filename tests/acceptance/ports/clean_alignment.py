"""A penalty on the angle between the gradients of clean and augmented samples, over the last layer."""

import torch

from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, log_range


def grads(objective, params, state, hyper):
    def penalty(at):
        views = [objective.last_layer_grad(at, view) for view in (0, "clean")]
        augmented, clean = (torch.cat([leaf.flatten() for leaf in view.values()]) for view in views)
        return hyper["strength"] * (1 - torch.cosine_similarity(augmented, clean, dim=0))

    gradient, value = objective.penalised_grad(params, penalty)
    return gradient, state, {"penalty": value}


ALIGNMENT = Regularizer("clean_alignment", grads, {"strength": log_range(1e-3, 10, off="low")}, clean_view=True)

STUDY = Study(
    data=Mnist1d(augmented=True),
    model=MLP((40, 256, 256, 10)),
    baseline="AdamW",
    configurations=(Configuration("AdamW"), Configuration("Aligned", regularizer=ALIGNMENT)),
)
