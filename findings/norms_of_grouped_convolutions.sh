#!/usr/bin/env bash
# BackPACK 1.7.1: the squared norms of per-sample gradients (BatchL2Grad) of a convolution with groups are too large,
# without a word; per-sample gradients (BatchGrad) of the same layer are right. BatchGrad in turn is wrong with
# padding="same".
#
# Guess: the two extensions of one package agree, or a setting that one of them does not support raises
# NotImplementedError, as groups do in its KFAC. Seen: BatchL2Grad multiplies the gradient of each output channel with
# the inputs of all groups, so it adds norms of entries that the weight does not have: with unrelated channels the result
# is too large by the number of groups, which in a depthwise convolution is the number of channels. BatchGrad gets
# the gradient by another convolution and hands "same" on to it, where the word means another number of zeros; with
# padding=1 instead it is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 backpack-for-pytorch==1.7.1
"$folder/venv/bin/python" - <<'PY'
import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad, BatchL2Grad
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
IMAGES, LABELS = torch.randn(8, 8, 6, 6), torch.randint(0, 3, (8,))
EXTENSIONS = {
    "BatchGrad": (BatchGrad, lambda weight: weight.grad_batch.flatten(1).square().sum(1)),
    "BatchL2Grad": (BatchL2Grad, lambda weight: weight.batch_l2),
}
CASES = {
    ("BatchGrad", "1 group"): nn.Conv2d(8, 8, 3),
    ("BatchL2Grad", "1 group"): nn.Conv2d(8, 8, 3),
    ("BatchGrad", "2 groups"): nn.Conv2d(8, 8, 3, groups=2),
    ("BatchL2Grad", "2 groups"): nn.Conv2d(8, 8, 3, groups=2),
    ("BatchGrad", "8 groups, depthwise"): nn.Conv2d(8, 8, 3, groups=8),
    ("BatchL2Grad", "8 groups, depthwise"): nn.Conv2d(8, 8, 3, groups=8),
    ("BatchGrad", "padding 1"): nn.Conv2d(8, 8, 3, padding=1),
    ("BatchGrad", "padding same"): nn.Conv2d(8, 8, 3, padding="same"),
}
WRONG = {("BatchL2Grad", "2 groups"), ("BatchL2Grad", "8 groups, depthwise"), ("BatchGrad", "padding same")}


def slow_norms(network):
    """Squared norms of the gradients of the convolution's weight, sample by sample."""
    norms = []
    for image, label in zip(IMAGES, LABELS):
        loss = nn.functional.cross_entropy(network(image[None]), label[None])
        (gradient,) = torch.autograd.grad(loss, network[0].weight)
        norms.append(gradient.square().sum())
    return torch.stack(norms)


found = set()
for (extension, setting), layer in CASES.items():
    network = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))
    network(IMAGES)
    slow = slow_norms(network)
    extended, loss = extend(network), extend(nn.CrossEntropyLoss(reduction="sum"))
    kind, norms_of = EXTENSIONS[extension]
    with backpack(kind()):
        loss(extended(IMAGES), LABELS).backward()
    fast = norms_of(layer.weight)
    print(f"{extension}, {setting}: squared norms are {float((fast / slow).mean()):.3f} times those of a loop over samples")
    if not torch.allclose(fast, slow, rtol=1e-9):
        found.add((extension, setting))
assert found == WRONG, f"other results are wrong than before: {found}"
PY
