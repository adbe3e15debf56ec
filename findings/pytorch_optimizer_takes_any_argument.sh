#!/usr/bin/env bash
# pytorch_optimizer 4.1.0: its optimizers take arguments that they do not have, without a word. `SM3(..., weight_decay=1)`
# trains without weight decay, and a misspelled argument leaves the one that was meant at its default.
#
# Guess: an argument that a class does not have raises TypeError, as in torch.optim. Seen: of the classes that need
# nothing but parameters, nearly all put unknown arguments into their parameter groups, where nobody reads them, and from
# there into checkpoints, so that they look as if they had been used. Thirteen of all do so with `weight_decay`, among
# them SM3, FTRL and Fromage: tuned over a range, it is a hyperparameter without any effect.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pytorch_optimizer==4.1.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import inspect
from importlib.metadata import version

import pytorch_optimizer
import torch


def weight():
    return torch.nn.Parameter(torch.tensor([1.0, -2.0]))


def accepts(make, **arguments):
    try:
        make([weight()], **arguments)
    except Exception:
        return False
    return True


def trained(make, **arguments):
    """A weight after three steps on w² / 2."""
    parameter = weight()
    optimizer = make([parameter], lr=0.1, **arguments)
    for _ in range(3):
        parameter.grad = parameter.detach().clone()
        optimizer.step()
    return parameter.detach()


print("pytorch_optimizer", version("pytorch_optimizer"), "torch", torch.__version__)
everything = {name: pytorch_optimizer.load_optimizer(name) for name in pytorch_optimizer.get_supported_optimizers()}
usual = {name: make for name, make in everything.items() if accepts(make)}
loose = [name for name, make in usual.items() if accepts(make, no_such_argument=1.0)]
no_decay = sorted(
    make.__name__ for make in everything.values()
    if "weight_decay" not in inspect.signature(make).parameters
    and any(each.kind is each.VAR_KEYWORD for each in inspect.signature(make).parameters.values())
)
print(f"{len(loose)} of {len(usual)} classes take no_such_argument=1.0")
print("take weight_decay without having it:", ", ".join(no_decay))
assert len(usual) > 100 and len(loose) > 0.9 * len(usual), "unknown arguments are refused now"
assert {"SM3", "FTRL", "Fromage"} <= set(no_decay) and len(no_decay) == 13, "they have a weight decay now"
assert not accepts(torch.optim.SGD, no_such_argument=1.0), "torch.optim takes unknown arguments, too"

for name in ("SM3", "FTRL", "Fromage"):
    make = getattr(pytorch_optimizer, name)
    assert torch.equal(trained(make), trained(make, weight_decay=1.0)), f"{name} uses weight_decay now"
adam = pytorch_optimizer.AdamP
meant, misspelled, default = trained(adam, betas=(0.5, 0.5)), trained(adam, beta=(0.5, 0.5)), trained(adam)
[group] = adam([weight()], beta=(0.5, 0.5)).param_groups
print("AdamP, betas:", meant.tolist(), "beta:", misspelled.tolist(), "neither:", default.tolist(), "kept:", group["beta"])
assert torch.equal(misspelled, default) and not torch.equal(meant, default) and group["beta"] == (0.5, 0.5)
PY
