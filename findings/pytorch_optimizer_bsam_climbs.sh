#!/usr/bin/env bash
# pytorch_optimizer 4.1.0: BSAM, Bayesian sharpness-aware minimization (arXiv:2210.01620), increases the loss.
#
# Guess: the weights that a step perturbs, by noise and along the gradient, are put back before the update, as in SAM and
# in the authors' code, and the update follows the gradient plus weight decay times the weights. Seen: they are never put
# back, so that every step climbs by rho times the gradient, also with a learning rate of 0; and the gradient is
# multiplied by the weight decay, 1e-4 by default, so that the descent is ten thousand times too small. The noise has
# a standard deviation of 1 / (N s) instead of the square root of it, a hundredth for N = 10,000 samples.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pytorch_optimizer==4.1.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from pytorch_optimizer import BSAM

SAMPLES, STEPS = 10_000, 100


def loss_of(weights):
    return weights.square().sum() / 2


def by_package(weights, steps=STEPS, **options):
    weights = torch.nn.Parameter(weights.clone())
    optimizer = BSAM([weights], num_data=SAMPLES, **options)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(weights)
        loss.backward()
        return loss

    closure()  # a step before the first gradient raises
    for _ in range(steps):
        optimizer.step(closure)
    return weights.detach()


def by_paper(w, lr=0.5, beta1=0.9, beta2=0.999, decay=1e-4, rho=0.05, damping=0.1):
    """The update of the paper's algorithm; the gradient of `loss_of` at w is w."""
    momentum, precision = torch.zeros_like(w), torch.ones_like(w)
    for _ in range(STEPS):
        gradient = w + torch.randn_like(w) / (SAMPLES * precision).sqrt()
        perturbed = w + rho * gradient / precision
        momentum = beta1 * momentum + (1 - beta1) * (perturbed + decay * w)
        w = w - lr * momentum / precision
        precision = beta2 * precision + (1 - beta2) * (precision.sqrt() * gradient.abs() + decay + damping)
    return w


torch.manual_seed(0)
print("pytorch_optimizer", version("pytorch_optimizer"), "torch", torch.__version__)
start = torch.tensor([1.0, -2.0])
package, paper = loss_of(by_package(start)).item(), loss_of(by_paper(start)).item()
print(f"loss at first {loss_of(start).item()}, after {STEPS} steps {package:.4g}, by the paper {paper:.4g}")
assert package > 10 * loss_of(start) and paper < 0.01, "BSAM decreases the loss now"

still = by_package(start, steps=1, lr=0.0)
print("one step with a learning rate of 0:", start.tolist(), "->", still.tolist())
assert torch.allclose(still, 1.05 * start, atol=0.01), "the perturbation is undone now"

ignored = by_package(start, rho=0.0, weight_decay=0.0)
print(f"{STEPS} steps without perturbation and weight decay:", ignored.tolist())
assert torch.allclose(ignored, start, atol=0.01), "the gradient is used without weight decay now"

noise = by_package(torch.zeros(100_000), steps=1, rho=0.0, lr=0.0).std().item()
print(f"standard deviation of the noise: {noise:.3g}, by the paper {SAMPLES**-0.5:.3g}")
assert abs(noise * SAMPLES - 1) < 0.05, "the noise has the paper's standard deviation now"
PY
