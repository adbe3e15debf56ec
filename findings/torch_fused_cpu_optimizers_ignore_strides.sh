#!/usr/bin/env bash
# PyTorch 2.13.0 on a CPU: the fused versions of Adam, AdamW, SGD with momentum and Adagrad read parameters, gradients and
# state as if all had the same memory format. Where they do not, each weight moves by the number of another one, without
# a word.
#
# Guess: fused=True gives what fused=False gives up to rounding, or raises, as is reported for CUDA (not run here). Seen:
# where a checkpoint of a network in the usual format is resumed in the channels-last format, load_state_dict leaves the
# optimizer's state in the usual one, and the next step of a fused optimizer differs from the plain one's by a quarter
# to a half of its length; after gradients were put back from one flat vector, by about its length. In the usual
# format, and without fused=True, both are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import nn

torch.manual_seed(0)
IMAGES, LABELS = torch.randn(16, 3, 8, 8), torch.randint(0, 5, (16,))
OPTIMIZERS = {
    "Adam": lambda parameters, fused: torch.optim.Adam(parameters, lr=1e-2, fused=fused),
    "AdamW": lambda parameters, fused: torch.optim.AdamW(parameters, lr=1e-2, fused=fused),
    "SGD": lambda parameters, fused: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, fused=fused),
    "Adagrad": lambda parameters, fused: torch.optim.Adagrad(parameters, lr=1e-2, fused=fused),
}


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))


def backward(model):
    model.zero_grad()
    nn.functional.cross_entropy(model(IMAGES), LABELS).backward()


def vector(model):
    """All weights, in the order of their indices, whatever the memory format."""
    return torch.cat([leaf.detach().contiguous().flatten() for leaf in model.parameters()])


def resumed(make, fused, memory_format):
    """The change of the fourth step, after three in the usual format and a checkpoint."""
    first = network()
    optimizer = make(first.parameters(), False)
    for _ in range(3):
        backward(first)
        optimizer.step()
    second = network().to(memory_format=memory_format)
    second.load_state_dict(first.state_dict())
    again = make(second.parameters(), fused)
    again.load_state_dict(optimizer.state_dict())
    for group in again.param_groups:
        group["fused"] = fused  # load_state_dict brings the saved one
    backward(second)
    before = vector(second)
    again.step()
    return vector(second) - before


def flattened(make, fused, memory_format):
    """The change of a first step whose gradients were put back from one vector."""
    model = network().to(memory_format=memory_format)
    backward(model)
    flat = torch.cat([leaf.grad.contiguous().flatten() for leaf in model.parameters()])
    for leaf in model.parameters():
        leaf.grad, flat = flat[: leaf.numel()].view(leaf.shape), flat[leaf.numel() :]
    before = vector(model)
    make(model.parameters(), fused).step()
    return vector(model) - before


print("torch", torch.__version__)
for situation in (resumed, flattened):
    for name, make in OPTIMIZERS.items():
        errors = []
        for memory_format in (torch.contiguous_format, torch.channels_last):
            plain, fused = (situation(make, each, memory_format) for each in (False, True))
            errors.append(float((fused - plain).norm() / plain.norm()))
        print(f"{situation.__name__}, {name}: fused differs by {errors[0]:.0e}; in channels-last by {errors[1]:.2f}")
        assert errors[0] < 1e-4 and errors[1] > 0.1, "changed"
PY
