"""AdamW whose weight decay grows where the gradient is noisy: λ / (1 + SNR), SNR = m² / v by Adam's moments."""

import torch

from hpo import MLP, Configuration, Mnist1d, Study, log_range, per_model


def init(params):
    zeros = {name: torch.zeros_like(leaf) for name, leaf in params.items()}
    return {"mean": zeros, "square": zeros, "steps": next(iter(params.values())).new_zeros(())}


def update(grads, state, params, hyper):
    steps, rate = state["steps"] + 1, hyper["learning_rate"]
    after = {"mean": {}, "square": {}, "steps": steps}
    new = {}
    for name, gradient in grads.items():
        after["mean"][name] = 0.9 * state["mean"][name] + 0.1 * gradient
        after["square"][name] = 0.999 * state["square"][name] + 0.001 * gradient.square()
        mean, square = after["mean"][name] / (1 - 0.9**steps), after["square"][name] / (1 - 0.999**steps)
        decay = hyper["weight_decay"] / (1 + mean.square() / (square + 1e-12))
        new[name] = params[name] - rate * (mean / (square.sqrt() + 1e-8) + decay * params[name])
    return new, after


SPACE = {"learning_rate": log_range(1e-4, 1e-2), "weight_decay": log_range(1e-4, 10)}
SNR = per_model("snr_decay", init, update, SPACE)

STUDY = Study(
    data=Mnist1d(label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    baseline="AdamW",
    configurations=(Configuration("AdamW"), Configuration("SNR decay", SNR)),
)
