#!/usr/bin/env bash
# madgrad 1.3: with momentum, which is the default, the decoupled weight decay of MADGRAD all but vanishes.
#
# Guess: `decouple_decay=True`, "AdamW style decoupled weight decay", takes weights without a gradient to zero by
# (1 - lr · weight_decay) a step. Seen: the momentum makes the weights a moving average of a point that MADGRAD computes
# from the first weights and the gradients alone, so that each step pulls them back to it. Without a gradient they stop
# at a share (1 - momentum) / (1 - momentum + lr · weight_decay) of the first weights: 0.91 where AdamW leaves 0.00004
# after 1,000 steps. A study that tunes this decay tunes almost nothing. MADGRAD without momentum and MirrorMADGRAD with
# or without it decay as AdamW does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q madgrad==1.3 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from madgrad import MADGRAD, MirrorMADGRAD

RATE, DECAY, STEPS = 0.01, 1.0, 1000


def left(optimizer, **options):
    """What is left of a weight of 1 without a gradient."""
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optimizer([weight], lr=RATE, weight_decay=DECAY, **options)
    for _ in range(STEPS):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    return weight.item()


print("madgrad", version("madgrad"), "torch", torch.__version__)
expected = (1 - RATE * DECAY) ** STEPS
adamw = left(torch.optim.AdamW)
print(f"AdamW: {adamw:.5f}")
assert abs(adamw - expected) < 1e-9
for momentum in (0.0, 0.5, 0.9):
    madgrad = left(MADGRAD, momentum=momentum, decouple_decay=True)
    mirror = left(MirrorMADGRAD, momentum=momentum, decouple_decay=True)
    limit = (1 - momentum) / (1 - momentum + RATE * DECAY) if momentum else expected
    print(f"momentum {momentum}: MADGRAD {madgrad:.5f} (expected {limit:.5f}), MirrorMADGRAD {mirror:.5f}")
    assert mirror < 1e-4, "MirrorMADGRAD decays in another way"
    assert abs(madgrad - limit) < 1e-3 and (momentum or madgrad < 1e-4), "MADGRAD decays in another way now"
PY
