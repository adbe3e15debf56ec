#!/usr/bin/env bash
# Opacus 1.6.0, BackPACK 1.7.1 and PyTorch 2.13.0's own per-sample gradients forget how a layer pads, without a word.
#
# Guess: a layer's per-sample gradients add up to its gradient, whatever its options are. Seen:
# - Conv2d(padding_mode="circular" or "reflect"): Opacus and BackPACK compute them as if the padding were zeros.
# - Embedding(padding_idx=...): Opacus and torch.nn.utils._per_sample_grad give the padding row a gradient, where PyTorch
#   gives it none. BackPACK refuses this layer.
# The usual gradient, from the same backward pass, is right in Opacus and BackPACK, so only who adds them up sees it.
# Opacus's optimizer steps with the per-sample gradients: it trains the padding row, and padding takes part in the norms by
# which samples are clipped. `GradSampleModule(..., force_functorch=True)` is right in all cases.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 opacus==1.6.0 backpack-for-pytorch==1.7.1
"$folder/venv/bin/python" - <<'PY'
import warnings

import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad
from opacus import GradSampleModule, PrivacyEngine
from torch import nn
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")  # about hooks and about privacy without noise
torch.manual_seed(0)
LABELS = torch.randint(0, 3, (8,))
IMAGES, WORDS = torch.randn(8, 2, 5, 5), torch.randint(0, 5, (8, 6))  # word 0 pads
CASES = {
    "conv, zeros": (lambda: nn.Conv2d(2, 4, 3, padding=1), IMAGES),
    "conv, circular": (lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), IMAGES),
    "conv, reflect": (lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), IMAGES),
    "embedding": (lambda: nn.Embedding(5, 4), WORDS),
    "embedding, padding_idx": (lambda: nn.Embedding(5, 4, padding_idx=0), WORDS),
}


def network_for(layer):
    return nn.Sequential(layer(), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))


def by_opacus(network, inputs, force_functorch=False):
    module = GradSampleModule(network, loss_reduction="sum", force_functorch=force_functorch)
    nn.functional.cross_entropy(module(inputs), LABELS, reduction="sum").backward()
    return network[0].weight.grad_sample


def by_opacus_functorch(network, inputs):
    return by_opacus(network, inputs, force_functorch=True)


def by_backpack(network, inputs):
    loss = extend(nn.CrossEntropyLoss(reduction="sum"))
    with backpack(BatchGrad()):
        loss(extend(network)(inputs), LABELS).backward()
    return network[0].weight.grad_batch


def by_torch(network, inputs):
    outputs = call_for_per_sample_grads(network, loss_reduction="sum")(inputs)
    nn.functional.cross_entropy(outputs, LABELS, reduction="sum").backward()
    return network[0].weight.grad_sample


def by_loop(network, inputs):
    losses = [nn.functional.cross_entropy(network(x[None]), y[None]) for x, y in zip(inputs, LABELS)]
    return torch.stack([torch.autograd.grad(loss, network[0].weight)[0] for loss in losses])


WRONG = {
    ("by_opacus", "conv, circular"),
    ("by_opacus", "conv, reflect"),
    ("by_opacus", "embedding, padding_idx"),
    ("by_backpack", "conv, circular"),
    ("by_backpack", "conv, reflect"),
    ("by_torch", "embedding, padding_idx"),
}
found = set()
for method in (by_opacus, by_opacus_functorch, by_backpack, by_torch):
    for case, (layer, inputs) in CASES.items():
        if method is by_backpack and case == "embedding, padding_idx":
            continue
        network = network_for(layer)
        network(inputs)
        slow = by_loop(network, inputs)
        fast = method(network, inputs)
        error = float((fast - slow).norm() / slow.norm())
        print(f"{method.__name__}, {case}: relative difference from a loop over samples {error:.1e}")
        if method is not by_torch:  # which has no other gradient
            assert torch.allclose(network[0].weight.grad, slow.sum(0), atol=1e-5), "the usual gradient is right"
        if error > 1e-4:
            found.add((method.__name__, case))
assert found == WRONG, f"other cases are wrong than before: {found}"

network = network_for(CASES["embedding, padding_idx"][0])
network(WORDS)
loader = DataLoader(TensorDataset(WORDS, LABELS), 4)
module, optimizer, loader = PrivacyEngine().make_private(
    module=network,
    optimizer=torch.optim.SGD(network.parameters(), 0.1),
    data_loader=loader,
    noise_multiplier=0.0,
    max_grad_norm=1.0,
    poisson_sampling=False,
)
assert not network[0].weight[0].any(), "PyTorch begins with a padding row of zeros"
for words, labels in loader:
    optimizer.zero_grad()
    nn.functional.cross_entropy(module(words), labels).backward()
    optimizer.step()
print("norm of the padding row after one epoch of private training:", float(network[0].weight[0].detach().norm()))
assert network[0].weight[0].any(), "it is trained"
PY
