#!/usr/bin/env bash
# torch_optimizer 0.3.0: RAdam trains every parameter group with the learning rate of the first one.
#
# Guess: a group has its own learning rate, and one with 0 stays as it is; that groups shared a step size was reported
# and closed as mended years ago. Seen: each group has a buffer of step sizes now, but all of them are one list, the
# default that the constructor made once, and the entry of a step holds the product with the learning rate of the group
# that came first. So a backbone that was given 0 to freeze it, or a tenth of the rate, is trained with the head's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch_optimizer==0.3.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from torch_optimizer import RAdam


def make(rates):
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in rates]
    return weights, RAdam([{"params": [weight], "lr": rate} for weight, rate in zip(weights, rates)])


def train(weights, optimizer, steps):
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.ones(1)
        optimizer.step()
    return [round(weight.item(), 4) for weight in weights]


print("torch_optimizer", version("torch_optimizer"), "torch", torch.__version__)
first, second = train(*make([0.01, 0.0]), steps=20)
print(f"after 20 steps with learning rates 0.01 and 0: {first}, {second}")
assert first < 0.95 and second == first, "the second group has its own learning rate now"
assert train(*make([0.0, 0.01]), steps=20) == [1.0, 1.0], "the second group has its own learning rate now"
PY
