#!/usr/bin/env bash
# schedulefree 1.4.1: parameters that join the optimizer during training (`add_param_group`, as when layers are unfrozen)
# are evaluated without their average, and the first evaluation moves them to another point of the training, without a
# word.
#
# Guess: a new group joins in the mode of the optimizer, or `step` raises, as it does outside of `train()` mode. Seen:
# groups have a mode each and a new one begins in evaluation mode, which `step` asks of the first group only. So the new
# group is trained as usual; `eval()` leaves it where it is, since it thinks it is averaged already; then `train()` moves
# it as if it had been, so that training goes on from a point where it never was. A call of `eval()` and `train()` right
# after `add_param_group` prevents it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 schedulefree==1.4.1
"$folder/venv/bin/python" - <<'PY'
import schedulefree
import torch

START = torch.tensor([1.0, -2.0, 3.0])
STEPS = 50


def new_parameter():
    return torch.nn.Parameter(START.clone())


def train(optimizer, parameters):
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(parameter.square().sum() for parameter in parameters).backward()
        optimizer.step()


def trained_and_evaluated(kind, joins, evaluates_first=False):
    """A parameter after training, in the next evaluation, and back in training; it is there at first or joins."""
    old, new = new_parameter(), new_parameter()
    optimizer = kind([old] if joins else [{"params": [old]}, {"params": [new]}], lr=0.01)
    optimizer.train()
    if joins:
        optimizer.add_param_group({"params": [new]})
        if evaluates_first:
            optimizer.eval()
            optimizer.train()
    train(optimizer, [old, new])
    points = [new.detach().clone()]
    for switch in (optimizer.eval, optimizer.train):
        switch()
        points.append(new.detach().clone())
    return torch.stack(points)


for kind in (schedulefree.SGDScheduleFree, schedulefree.AdamWScheduleFree, schedulefree.RAdamScheduleFree):
    slow = trained_and_evaluated(kind, joins=False)
    joined = trained_and_evaluated(kind, joins=True)
    switched = trained_and_evaluated(kind, joins=True, evaluates_first=True)
    print(f"{kind.__name__}: first entry after training, in evaluation, back in training:")
    for name, points in (("there at first", slow), ("joined", joined), ("joined, eval, train", switched)):
        print(f"  {name}: " + ", ".join(f"{value:.4f}" for value in points[:, 0].tolist()))
    assert torch.allclose(switched, slow, atol=1e-5), "with eval() and train() it is as if it had been there at first"
    assert torch.allclose(joined[0], slow[0], atol=1e-5), "it is trained as if it had been there at first"
    assert torch.equal(joined[1], joined[0]), "it is evaluated without its average"
    assert not torch.allclose(slow[1], slow[0], atol=1e-3), "which is another point"
    assert torch.allclose(slow[2], slow[0], atol=1e-5), "evaluation does not change the training"
    assert not torch.allclose(joined[2], joined[0], atol=1e-3), "evaluation moves the parameters that joined"
PY
