#!/usr/bin/env bash
# loss_landscapes 3.0.6: a larger `distance` draws a smaller plane, and every second column of it is shifted by a step.
#
# Guess: `distance`, "maximum distance in parameter space from the start point", of 10 shows ten times as much as 1; the
# entries of a plane's matrix lie on one grid; two random directions of a network with many parameters are nearly
# orthogonal, as the documentation says. Seen: the norm of the weights is divided by `distance`, so that 10 shows a
# hundredth of the area, and the default 0.1 of `random_line` ends at ten times the weights. Columns are computed
# forwards and backwards in turn, and each takes its step before it evaluates, so that a column's entries stand for the
# steps 1 … n, the next one's for 0 … n − 1: a smooth bowl gets teeth. And directions are drawn from [0, 1]: without a
# negative entry, each has a cosine of 0.87 with the direction that adds the same to all weights, and any two of 0.75.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q loss-landscapes==3.0.6 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import loss_landscapes
import numpy as np
import torch
from loss_landscapes.metrics import Metric


class Weights(Metric):
    """Returns all weights as a vector."""

    def __call__(self, model):
        return np.concatenate([p.detach().numpy().ravel().copy() for p in model.get_module_parameters()])


def line(distance, normalization="filter"):
    return loss_landscapes.random_line(model, Weights(), distance, 10, normalization, deepcopy_model=True) - start


def cosine(one, other):
    return one @ other / (np.linalg.norm(one) * np.linalg.norm(other))


print("loss_landscapes", version("loss_landscapes"), "torch", torch.__version__)
torch.manual_seed(0)
model = torch.nn.Linear(100, 100, bias=False).double()
start = model.weight.detach().numpy().ravel().copy()
norm = np.linalg.norm(start)

lengths = {distance: np.linalg.norm(line(distance)[-1]) / norm for distance in (0.1, 1, 10)}
print("distance → length of the line in norms of the weights:", {d: round(float(v), 4) for d, v in lengths.items()})
for distance, length in lengths.items():
    assert np.isclose(length, 1 / distance), "the length has another rule now"

steps = 4
plane = loss_landscapes.random_plane(model, Weights(), 1, steps, deepcopy_model=True)  # [column, entry, weight]
along = plane[0, 1] - plane[0, 0]  # one step of the second direction
across = plane[1, 0] - plane[0, 0]
other = plane[2, 0] - plane[0, 0]  # two steps of the first direction, by columns of the same kind
shift = across - other / 2  # what is left of one step of the first direction
print("the second column begins before the first by this many steps:", round(float(-shift @ along / (along @ along)), 4))
assert np.allclose(shift, -along), "columns lie on one grid now"
straight = np.stack([plane[0, 0] + i * other / 2 + j * along for i in range(steps) for j in range(steps)])
off = np.linalg.norm(straight - plane.reshape(steps * steps, -1), axis=1).reshape(steps, steps) / np.linalg.norm(along)
print("distance of each column from the grid of the first, in steps:", off.mean(1).round(3).tolist())
assert np.allclose(off, [[0] * steps, [1] * steps] * (steps // 2))

for normalization in (None, "model", "filter"):
    one, two = line(1, normalization)[-1], line(1, normalization)[-1]
    same, pair = cosine(one, np.ones_like(one)), cosine(one, two)
    print(f"normalization {normalization}: cosine with equal entries {same:.3f}, of two random directions {pair:.3f}")
    assert one.min() >= 0 and 0.8 < same < 0.9 and 0.7 < pair < 0.8, "directions are drawn in another way"
PY
