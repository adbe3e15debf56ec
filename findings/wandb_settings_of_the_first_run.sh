#!/usr/bin/env bash
# W&B 0.31.0: a process's second `wandb.init()` still uses the working directory and the variables WANDB_DIR,
# WANDB_PROJECT and WANDB_NAME that the process had at its first one.
#
# Guess: `wandb.init()` reads them each time it is called, as its arguments, so that a script that trains one run after
# another can change them in between. Seen: the second run lies in the first one's directory, under its project and
# name; nothing warns of it. Arguments of `wandb.init(dir=..., project=..., name=...)` hold for each run, and so do
# variables that are set before a `wandb.teardown()` has ended the first run's service.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q wandb==0.31.0
cat > "$folder/runs.py" <<'PY'
import os
import tempfile
from pathlib import Path

import wandb

os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}


def new_folder():
    return tempfile.mkdtemp(dir=Path(__file__).parent)


def with_variables(number):
    folder = new_folder()
    os.environ |= {"WANDB_DIR": folder, "WANDB_PROJECT": f"project-{number}", "WANDB_NAME": f"run-{number}"}
    return folder


def started(folder, **arguments):
    """Whether a run lies in the folder, its project and its name."""
    run = wandb.init(**arguments)
    run.finish()
    return run.dir.startswith(folder), run.project, run.name


assert started(with_variables(1)) == (True, "project-1", "run-1")
folder = with_variables(2)
assert started(folder) == (False, "project-1", "run-1"), "the second run has its own variables"
assert started(folder, dir=folder, project="project-2", name="run-2") == (True, "project-2", "run-2")
wandb.teardown()
assert started(with_variables(3)) == (True, "project-3", "run-3")

wandb.teardown()
del os.environ["WANDB_DIR"]
for number, expected in enumerate((True, False)):
    folder = new_folder()
    os.chdir(folder)
    assert started(folder)[0] is expected, f"run {number + 1} after a change of the working directory"
PY
"$folder/venv/bin/python" "$folder/runs.py"
echo "A second run has the working directory and the variables of the first one."
