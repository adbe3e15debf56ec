"""Lookaround (Zhang et al., arXiv:2306.07684): networks on different augmentations, averaged every 5 steps."""

import torch

from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, log_range

NETWORKS, STEPS = 3, 5


def init(params):
    zeros = {name: torch.zeros_like(leaf) for name, leaf in params.items()}
    return {str(number): zeros for number in range(NETWORKS)}


def grads(objective, params, state, hyper):
    """Moves each network by SGD; every 5th step gives minus the mean of their moves, other steps 0."""
    moved = {}
    for view, offsets in enumerate(state.values()):
        gradient = objective.grad({name: params[name] + offsets[name] for name in params}, view)
        moved[str(view)] = {name: offsets[name] - hyper["inner_rate"] * gradient[name] for name in params}
    averages = (objective.step % STEPS == 0).to(hyper["inner_rate"].dtype)
    mean = {name: sum(each[name] for each in moved.values()) / NETWORKS for name in params}
    state = {key: {name: (1 - averages) * leaf for name, leaf in each.items()} for key, each in moved.items()}
    return {name: -averages * mean[name] for name in params}, state, {}


LOOKAROUND = Regularizer("lookaround", grads, {"inner_rate": log_range(1e-3, 1)}, init, views=NETWORKS)
OUTER = {"learning_rate": 1, "weight_decay": 0, "momentum": 0}
STUDY = Study(
    data=Mnist1d(augmented=True),
    model=MLP((40, 256, 256, 10)),
    baseline="SGD",
    configurations=(Configuration("SGD", "sgd"), Configuration("Lookaround", "sgd", LOOKAROUND, OUTER)),
)
