"""Slow, obviously right versions: one sample at a time, one formula a line, from the papers' equations.

Nothing here uses the package's objective, rules, populations or training loop.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from references_batch import Batch, Hyper, Memory, cross_entropy, mean, square_norm, weighted_mean
from references_sharpness import Answer, asam, gam, gam_adaptive, gam_paper, gvr, gvr_independent, sam, vasso
from torch import Tensor, nn


def quartiles(values: list[float]) -> tuple[float, float]:
    """Q1 and Q3 by linear interpolation between order statistics, as the published ROGC script takes them."""
    first, third = np.quantile(np.asarray(values), [0.25, 0.75], method="linear")
    return float(first), float(third)


def none(batch: Batch, _: Hyper, __: Memory) -> Answer:
    """g, the gradient of the mean loss."""
    return batch.mean_gradient(), {}


def gnvr(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """L + λ · Var_i(‖g_i‖), the variance with N − 1 (0 of one sample) and ‖g_i‖ = sqrt(Σ g² + 1e-8)."""
    norms = [(square_norm(g) + 1e-8) ** 0.5 for g in batch.sample_gradients(differentiable=True)]
    centre = mean(norms)
    variance = sum((norm - centre) ** 2 for norm in norms) / max(1, len(norms) - 1)
    penalty = hyper["lambda"] * variance
    return batch.gradient(mean(batch.sample_losses()) + penalty), {"penalty": penalty.item()}


def sgsc(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """ḡ_p · |mean_i sign(g_i,p)|^γ, where 0⁰ = 1; and the mean of |mean_i sign(g_i,p)| over all p."""
    gradients = batch.sample_gradients()
    result, consistencies = {}, []
    for name, leaf in gradients[0].items():
        result[name] = torch.empty_like(leaf)
        for place in np.ndindex(*leaf.shape):
            components = [gradient[name][place].item() for gradient in gradients]
            consistency = abs(sum(np.sign(component) for component in components)) / len(components)
            result[name][place] = sum(components) / len(components) * consistency ** hyper["gamma"]
            consistencies.append(consistency)
    return result, {"consistency": float(np.mean(consistencies))}


def clip_global(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """g · min(1, c/(‖g‖ + 1e-6)): torch.nn.utils.clip_grad_norm_."""
    gradient = batch.mean_gradient()
    factor = min(1.0, hyper["clip"] / (square_norm(gradient).sqrt().item() + 1e-6))
    return {name: factor * leaf for name, leaf in gradient.items()}, {"clipped": float(factor < 1)}


def clip_sample(batch: Batch, hyper: Hyper, _: Memory) -> Answer:
    """mean_i g_i · min(1, c/(‖g_i‖ + 1e-8))."""
    gradients = batch.sample_gradients()
    factors = [min(1.0, hyper["clip"] / (square_norm(g).sqrt().item() + 1e-8)) for g in gradients]
    clipped = sum(factor < 1 for factor in factors) / len(factors)
    return weighted_mean(gradients, factors), {"clipped": clipped}


def rogc(batch: Batch, hyper: Hyper, memory: Memory) -> Answer:
    """clip_sample with c = Q3 + k·(Q3 − Q1) of the batch's ‖g_i‖."""
    first, third = quartiles([square_norm(g).sqrt().item() for g in batch.sample_gradients()])
    fence = third + hyper["k"] * (third - first)
    gradient, scalars = clip_sample(batch, {"clip": fence}, memory)
    return gradient, scalars | {"fence": fence}


REGULARIZERS: dict[str, Callable[[Batch, Hyper, Memory], Answer]] = {
    "none": none,
    "sam": sam,
    "asam": asam,
    "vasso": vasso,
    "gam": gam,
    "gam_paper": gam_paper,
    "gam_adaptive": gam_adaptive,
    "gvr": gvr,
    "gvr_independent": gvr_independent,
    "gnvr": gnvr,
    "sgsc": sgsc,
    "clip_global": clip_global,
    "clip_sample": clip_sample,
    "rogc": rogc,
}

OPTIMIZERS: dict[str, Callable[[list[Tensor], Hyper], torch.optim.Optimizer]] = {
    "sgd": lambda params, hyper: torch.optim.SGD(
        params, hyper["learning_rate"], hyper["momentum"], weight_decay=hyper["weight_decay"]
    ),
    "nesterov": lambda params, hyper: torch.optim.SGD(
        params, hyper["learning_rate"], hyper["momentum"], weight_decay=hyper["weight_decay"], nesterov=True
    ),
    "adam": lambda params, hyper: torch.optim.Adam(
        params, hyper["learning_rate"], (hyper["beta1"], hyper["beta2"]), hyper["epsilon"], hyper["weight_decay"]
    ),
    "adamw": lambda params, hyper: torch.optim.AdamW(
        params, hyper["learning_rate"], (hyper["beta1"], hyper["beta2"]), hyper["epsilon"], hyper["weight_decay"]
    ),
}


def evaluate(module: nn.Module, samples: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean loss and accuracy, one sample at a time."""
    losses, hits = [], []
    with torch.no_grad():
        for sample, label in zip(samples, labels, strict=True):
            outputs = module(sample[None])
            losses.append(cross_entropy(outputs, label[None]).item())
            hits.append(outputs.argmax().item() == label.item())
    return sum(losses) / len(losses), sum(hits) / len(hits)


def changed_labels(given: Tensor, true: Tensor, places: Tensor) -> list[int]:
    """The positions whose given label is not the true one."""
    return [place for place in places.tolist() if given[place].item() != true[place].item()]


def minibatches(order: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Whole minibatches of an epoch; the last incomplete one is left out."""
    for start in range(0, len(order) - batch_size + 1, batch_size):
        yield order[start : start + batch_size]


def train(
    module: nn.Module,
    regularizer: str,
    optimizer: str,
    hyper: Hyper,
    samples: Tensor,
    labels: Tensor,
    orders: list[Tensor],
    batch_size: int,
) -> dict[str, list[float]]:
    """Trains `module` in place, one model with torch.optim, an epoch for each order; epoch means by curve name."""
    parameters = list(module.parameters())
    stepper = OPTIMIZERS[optimizer](parameters, hyper)
    memory: Memory = {}
    curves: dict[str, list[float]] = {}
    for order in orders:
        sums: dict[str, list[float]] = {}
        for places in minibatches(order, batch_size):
            batch = Batch(module, samples[places][None], labels[places])
            sums.setdefault("train_loss", []).append(mean(batch.sample_losses()).item())
            gradient, scalars = REGULARIZERS[regularizer](batch, hyper, memory)
            for name, value in scalars.items():
                sums.setdefault(f"aux/{name}", []).append(value)
            for name, parameter in module.named_parameters():
                parameter.grad = gradient[name].detach()
            stepper.step()
        for name, values in sums.items():
            curves.setdefault(name, []).append(sum(values) / len(values))
    return curves
