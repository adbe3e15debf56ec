#!/usr/bin/env bash
# hessian_eigenthings 1.0.0a5: `momentum` is subtracted from every eigenvalue, and small batches count as large ones.
#
# Guess: momentum makes the power iteration faster and leaves its result; `microbatch_size` costs time and saves memory,
# as the Hessian of a mean loss is that of all samples. Seen: the previous vector is subtracted before the eigenvalue is
# read off, so that an iteration that says it has converged returns the eigenvalue minus the momentum, for each of the
# leading ones, whatever their size. And micro-batches, and batches of a loader, are averaged as if all had as many
# samples: where they do not divide the data, the last few samples weigh more, and the sharpness is that of another loss
# (here 101 instead of 41).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q hessian-eigenthings==1.0.0a5 torch==2.13.0 numpy==2.4.6 scipy==1.16.3
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from hessian_eigenthings.algorithms.power_iteration import deflated_power_iteration
from hessian_eigenthings.operators import HessianOperator

torch.manual_seed(0)
inputs, targets = torch.randn(10, 4, dtype=torch.float64), torch.randn(10, 1, dtype=torch.float64)
inputs[8:] *= 5
model = torch.nn.Linear(4, 1).double()


def operator(batches, **options):
    return HessianOperator(model, batches, lambda net, b: (net(b[0]) - b[1]).square().mean(), **options)


def sharpness(found):
    matrix = torch.stack([found.matvec(unit) for unit in torch.eye(5, dtype=torch.float64)])
    return torch.linalg.eigvalsh(matrix).max().item()


print("hessian_eigenthings", version("hessian-eigenthings"), "torch", torch.__version__)
extended = torch.cat([inputs, torch.ones(10, 1, dtype=torch.float64)], dim=1)  # of the bias
exact = torch.linalg.eigvalsh(2 * extended.T @ extended / 10).flip(0)
whole = operator([(inputs, targets)])
for momentum in (0.0, 0.1, 0.5):
    found = deflated_power_iteration(whole, k=3, max_iter=5000, tol=1e-8, momentum=momentum, seed=0)
    error = found.eigenvalues - exact[:3]
    print(f"momentum {momentum}: eigenvalues {[round(v, 3) for v in found.eigenvalues.tolist()]}", found.converged.tolist())
    assert found.converged.all() and torch.allclose(error, torch.full_like(error, -momentum), atol=1e-5)
sizes = {size: sharpness(operator([(inputs, targets)], microbatch_size=size)) for size in (10, 5, 8)}
loader = sharpness(operator([(inputs[:8], targets[:8]), (inputs[8:], targets[8:])]))
print("largest eigenvalue by size of micro-batches:", {size: round(value, 2) for size, value in sizes.items()})
print("of a loader with batches of 8 and 2 samples:", round(loader, 2))
assert abs(sizes[10] - exact[0]) < 1e-9 and abs(sizes[5] - exact[0]) < 1e-9
assert sizes[8] > 2 * exact[0] and abs(loader - sizes[8]) < 1e-9, "batches are weighted by their samples now"
PY
