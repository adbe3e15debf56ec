#!/usr/bin/env bash
# PyTorch 2.13.0: second derivatives of LayerNorm and InstanceNorm are wrong, without a word, where they are taken through
# per-sample gradients by vmap with respect to the layer's gain and shift as well: grad(vmap(grad(...))) over all
# parameters of a network, as every penalty on per-sample gradient norms does.
#
# Guess: vmap over samples gives what a loop over samples gives, or raises. Seen: the gradient with respect to the weights
# below the norm differs from the loop's, which agrees with finite differences, by a fifth to a third. The values, the
# gradients for gain and shift, GroupNorm, RMSNorm, and LayerNorm whose gain and shift are constants are all right, so
# that training goes on plausibly.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
import torch.nn.functional as F
from torch.func import grad, vmap

torch.manual_seed(0)
SAMPLES = torch.randn(4, 6, dtype=torch.float64)
PARAMETERS = {
    "weight": torch.randn(6, 6, dtype=torch.float64),
    "gain": torch.rand(6, dtype=torch.float64) + 0.5,
    "shift": torch.randn(6, dtype=torch.float64),
}
DIRECTION = {name: torch.randn_like(value) for name, value in PARAMETERS.items()}
STEP = 1e-5

NORMS = {
    "layer_norm": lambda h, p: F.layer_norm(h, (6,), p["gain"], p["shift"]),
    "instance_norm": lambda h, p: F.instance_norm(h.reshape(1, 2, 3), weight=p["gain"][:2], bias=p["shift"][:2]),
    "group_norm": lambda h, p: F.group_norm(h, 2, p["gain"], p["shift"]),
    "rms_norm": lambda h, p: F.rms_norm(h, (6,), p["gain"]) + p["shift"],
    "layer_norm with a constant gain and shift": lambda h, p: F.layer_norm(
        h, (6,), PARAMETERS["gain"].clone(), PARAMETERS["shift"].clone()
    ),
}
WRONG = {"layer_norm", "instance_norm"}


def moved(length):
    return {name: value + length * DIRECTION[name] for name, value in PARAMETERS.items()}


print("torch", torch.__version__)
found = set()
for name, norm in NORMS.items():

    def square_norm(parameters, sample):
        gradient = grad(lambda p: norm(sample[None] @ p["weight"], p).square().sin().sum())(parameters)
        return sum(leaf.square().sum() for leaf in gradient.values())

    def by_vmap(parameters):
        return vmap(lambda sample: square_norm(parameters, sample))(SAMPLES).sum()

    def by_loop(parameters):
        return torch.stack([square_norm(parameters, sample) for sample in SAMPLES]).sum()

    assert torch.allclose(by_vmap(PARAMETERS), by_loop(PARAMETERS), rtol=1e-12), "the values agree"
    fast, slow = grad(by_vmap)(PARAMETERS), grad(by_loop)(PARAMETERS)
    differences = (by_loop(moved(STEP)) - by_loop(moved(-STEP))) / (2 * STEP)
    along = sum((slow[leaf] * DIRECTION[leaf]).sum() for leaf in slow)
    assert torch.allclose(along, differences, rtol=1e-5), "the loop agrees with finite differences"
    for leaf in ("gain", "shift"):
        assert torch.allclose(fast[leaf], slow[leaf], rtol=1e-9), f"the gradient for the {leaf} agrees"
    fast, slow = fast["weight"], slow["weight"]
    error = float((fast - slow).norm() / slow.norm())
    print(f"{name}: relative difference of vmap from the loop {error:.1e}")
    if error > 1e-9:
        found.add(name)
assert found == WRONG, f"other norms are wrong than before: {found}"
PY
