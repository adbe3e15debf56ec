#!/usr/bin/env bash
# TorchJD 0.18.0: autogram's Gramian is wrong, without a word, for a network with tied weights, so that a step of MGDA may
# increase a loss.
#
# Guess: Engine(network, batch_dim=0) gives J Jᵀ for the Jacobian J of the losses, as its documentation says, for any
# computation graph; a parameter that two modules share counts once, with both of its uses. Seen: each module adds the
# Gramian of its own use, and the products between the two uses are missing. The same module called twice is right. MGDA
# promises a direction along which every loss decreases (to first order); with this Gramian it takes
# one along which a loss increases in 2 of 100 small networks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 torchjd==0.18.0
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import nn
from torchjd.aggregation import MGDAWeighting
from torchjd.autogram import Engine

torch.set_default_dtype(torch.float64)


class TwoLayers(nn.Module):
    """Input and output layer, whose weights may be tied as in language models, or which may be one module."""

    def __init__(self, kind):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = self.first if kind == "one module twice" else nn.Linear(4, 4, bias=False)
        if kind == "tied weights":
            self.second.weight = self.first.weight

    def forward(self, inputs):
        return self.second(torch.tanh(self.first(inputs)))


def measured(kind, seed):
    """Relative error of the Gramian, and the smallest cosine of MGDA's direction and a loss's gradient."""
    torch.manual_seed(seed)
    network, inputs, targets = TwoLayers(kind), torch.randn(3, 4), torch.randn(3, 4)
    parameters = list(network.parameters())
    engine = Engine(network, batch_dim=0)
    losses = (network(inputs) - targets).square().sum(1)
    gramian = engine.compute_gramian(losses)
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
    jacobian = torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])
    slow = jacobian @ jacobian.T
    direction = MGDAWeighting(max_iters=1000)(gramian) @ jacobian
    cosine = (jacobian @ direction / jacobian.norm(dim=1) / direction.norm()).min()
    return float((gramian - slow).norm() / slow.norm()), float(cosine)


worst = {}
for kind in ("two weights", "one module twice", "tied weights"):
    errors, cosines = zip(*(measured(kind, seed) for seed in range(100)))
    worst[kind] = min(cosines)
    conflicts = sum(cosine < -0.05 for cosine in cosines)
    print(f"{kind}: relative error {min(errors):.1e} to {max(errors):.1e}, smallest cosine {min(cosines):.3f}, "
          f"{conflicts} of 100 directions increase a loss")
    if kind == "tied weights":
        assert min(errors) > 1e-3 and conflicts > 0, "tied weights are right again"
    else:
        assert max(errors) < 1e-9 and conflicts == 0, "others are wrong"
PY
