#!/usr/bin/env bash
# grokadamw 0.1.2: a checkpoint is loaded without its moments, and late parameters begin with ten times the step.
#
# Guess: `load_state_dict` of what `state_dict` returned goes on where the run stopped, and a first step moves every
# weight by the learning rate, as in Adam. Seen: the moments are kept in the parameter group, under the parameters
# themselves, and not in `optimizer.state`. They are saved and loaded without a message, but a program that resumes has
# other parameters, finds nothing under them, and begins with zero moments. And the decay of the first moment shrinks
# with a parameter's place in its group (gamma), but the correction for its zero start does not: the first step of the
# thirtieth parameter is 9.6 times the learning rate. Sorting parameters into groups, for instance by weight decay, so
# changes the training.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q grokadamw==0.1.2 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PY'
import io
from importlib.metadata import version

import torch
from grokadamw import GrokAdamW

RATE = 1e-3


def make(weights):
    parameters = [torch.nn.Parameter(torch.tensor([weight])) for weight in weights]
    return parameters, GrokAdamW(parameters, lr=RATE, weight_decay=0.0)


def train(parameters, optimizer, gradients):
    for gradient in gradients:
        for parameter in parameters:
            parameter.grad = torch.tensor([gradient])
        optimizer.step()


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


print("grokadamw", version("grokadamw"), "torch", torch.__version__)
parameters, optimizer = make([0.0] * 30)
train(parameters, optimizer, [1.0])
first = [-parameter.item() / RATE for parameter in parameters]
print("first step of parameters 1, 2, 10 and 30 in learning rates:", [round(first[i], 2) for i in (0, 1, 9, 29)])
assert abs(first[0] - 1) < 0.01 and first == sorted(first) and 9.5 < first[29] < 10, "steps are corrected now"

parameters, optimizer = make([0.0])
train(parameters, optimizer, [1.0] * 10)
saved = through_a_file(optimizer.state_dict())
assert saved["state"] == {} and len(saved["param_groups"][0]["state"]) == 1, "the moments are kept elsewhere now"
later, resumed = make([parameters[0].item()])
resumed.load_state_dict(saved)
begun, fresh = make([parameters[0].item()])
for each in ((parameters, optimizer), (later, resumed), (begun, fresh)):
    train(*each, [-0.1] * 10)
print("after 10 + 10 steps:", parameters[0].item(), "resumed:", later[0].item(), "with a new optimizer:", begun[0].item())
assert later[0].item() == begun[0].item(), "a resumed run has its moments now"
assert abs(later[0].item() - parameters[0].item()) > 5 * RATE
PY
