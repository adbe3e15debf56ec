#!/usr/bin/env bash
# lion-pytorch 0.2.5: with `decoupled_weight_decay=True`, a parameter group with its own learning rate decays by another
# factor than the weight decay that it was given: by lr of the group / lr of the constructor times as much.
#
# Guess: decoupled means that a step shrinks the weights of every group by its weight decay, whatever its learning rate
# is, and by less only as a schedule lowers this rate. Seen: the weight decay is divided by the constructor's `lr`, which
# is no more than the default of groups without one. A group with a tenth of that rate, as for a pretrained backbone,
# decays by a tenth; if `lr` is left at 1e-4 because all groups have their own, 1e-2, they decay a hundredfold, and one
# step turns weights into their negatives where weight decay is 0.02. Checkpoints do not hold the divisor.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lion-pytorch==0.2.5 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from lion_pytorch import Lion

DECAY = 0.02


def decay_of_one_step(groups, **options):
    """By how much of itself each group's weight shrinks in a step without a gradient."""
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in groups]
    given = [{"params": [weight]} | group for weight, group in zip(weights, groups)]
    optimizer = Lion(given, weight_decay=DECAY, decoupled_weight_decay=True, **options)
    for weight in weights:
        weight.grad = torch.zeros(1)
    optimizer.step()
    return [round(1 - weight.item(), 5) for weight in weights]


print("lion-pytorch", version("lion-pytorch"), "torch", torch.__version__)
one = decay_of_one_step([{}], lr=3e-4)
two = decay_of_one_step([{"lr": 3e-5}, {"lr": 3e-4}], lr=3e-4)
own = decay_of_one_step([{"lr": 1e-2}, {"lr": 1e-3}])
print(f"weight decay {DECAY}: one group {one}, with a backbone's smaller rate {two}, all with their own rates {own}")
assert one == [DECAY], "it does not decay by the weight decay"
assert two == [DECAY / 10, DECAY], "each group's own rate is the divisor now"
assert own == [100 * DECAY, 10 * DECAY], "the constructor's default rate is no divisor any more"

weight = torch.nn.Parameter(torch.ones(1))
saved = Lion([weight], lr=1e-2, weight_decay=DECAY, decoupled_weight_decay=True).state_dict()
resumed = Lion([weight], weight_decay=DECAY, decoupled_weight_decay=True)
resumed.load_state_dict(saved)
weight.grad = torch.zeros(1)
resumed.step()
print(f"resumed from a checkpoint with the rate of 1e-2: {1 - weight.item():.5f}")
assert round(1 - weight.item(), 5) == 100 * DECAY, "a checkpoint holds the divisor now"
PY
