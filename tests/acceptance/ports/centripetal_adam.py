"""Adam with centripetal acceleration (Peng et al., arXiv:1902.08949): the gradient plus a share of its last change."""

import torch

from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, log_range


def init(params):
    return {"last": {name: torch.zeros_like(leaf) for name, leaf in params.items()}}


def grads(objective, params, state, hyper):
    gradient, last = objective.grad(params), state["last"]
    started = (objective.step > 0) * hyper["centripetal"]
    accelerated = {name: leaf + started * (leaf - last[name]) for name, leaf in gradient.items()}
    return accelerated, {"last": gradient}, {}


CENTRIPETAL = Regularizer("centripetal", grads, {"centripetal": log_range(0.01, 1, off="low")}, init=init)

STUDY = Study(
    data=Mnist1d(label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    baseline="Adam",
    configurations=(Configuration("Adam", "adam"), Configuration("Centripetal Adam", "adam", CENTRIPETAL)),
)
