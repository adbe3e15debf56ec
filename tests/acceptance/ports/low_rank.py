"""Each matrix's gradient projected to its largest singular values (low rank), with the rank tuned as a whole number."""

import torch

from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, integers


def grads(objective, params, state, hyper):
    gradient, kept = objective.grad(params), []
    for name, leaf in gradient.items():
        if leaf.dim() == 2:
            left, values, right = torch.linalg.svd(leaf, full_matrices=False)
            largest = values * (torch.arange(len(values)) < hyper["rank"])
            gradient[name] = left @ (largest[:, None] * right)
            kept.append(largest.square().sum() / values.square().sum())
    return gradient, state, {"kept": torch.stack(kept).mean()}


LOW_RANK = Regularizer("low_rank", grads, {"rank": integers(1, 64, log=True, off="high")})

STUDY = Study(
    data=Mnist1d(label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    baseline="AdamW",
    configurations=(Configuration("AdamW"), Configuration("Low rank", regularizer=LOW_RANK)),
)
