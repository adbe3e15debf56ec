"""A penalty on the kurtosis of the gradient's entries: heavy tails come from few samples."""

import torch

from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, log_range


def grads(objective, params, state, hyper):
    def penalty(at):
        entries = torch.cat([leaf.flatten() for leaf in objective.grad(at).values()])
        centred = entries - entries.mean()
        kurtosis = centred.pow(4).mean() / centred.square().mean().square()
        return hyper["strength"] * kurtosis

    gradient, value = objective.penalised_grad(params, penalty)
    return gradient, state, {"penalty": value}


KURTOSIS = Regularizer("kurtosis", grads, {"strength": log_range(1e-5, 1e-1, off="low")})

STUDY = Study(
    data=Mnist1d(label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    baseline="AdamW",
    configurations=(Configuration("AdamW"), Configuration("Kurtosis", regularizer=KURTOSIS)),
)
