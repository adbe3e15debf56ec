"""Gradient agreement: only entries whose sign is the same in both halves of a minibatch are kept (as in AND-masks)."""

from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, linear_range


def grads(objective, params, state, hyper):
    half = len(objective.labels) // 2
    first = objective.subset(slice(half)).grad(params)
    second = objective.subset(slice(half, None)).grad(params)
    gradient, agreeing, entries = {}, 0, 0
    for name in params:
        agrees = first[name] * second[name] > 0
        kept = agrees + (1 - hyper["strength"]) * ~agrees
        gradient[name] = kept * (first[name] + second[name]) / 2
        agreeing, entries = agreeing + agrees.sum(), entries + agrees.numel()
    return gradient, state, {"agreement": agreeing / entries}


AGREEMENT = Regularizer("agreement", grads, {"strength": linear_range(0, 1, off="low")})

STUDY = Study(
    data=Mnist1d(label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    baseline="AdamW",
    configurations=(Configuration("AdamW"), Configuration("Agreement", regularizer=AGREEMENT)),
)
