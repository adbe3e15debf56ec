"""Every edit that changes what a study's code does is seen, and none that does not; the same in every process."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hpo import load
from hpo.fingerprint import fingerprint

BASE = '''
"""Shared parts."""
import torch
from dataclasses import dataclass, field
from hpo import Dataset, Source
from lab import helpers

SPREAD = 1.5
NAMES = frozenset({"a", "b", "c", "d"})
KINDS = {torch.float16, torch.bfloat16, torch.float32}


@dataclass(frozen=True)
class Blobs(Dataset):
    samples: int = 24
    folder: str = field(default="/nowhere", metadata={"described": False})

    def load(self):
        means = torch.arange(3.0)[:, None] * SPREAD + helpers.SHIFT
        labels = torch.arange(self.samples) % 3
        return Source(means[labels] + len(NAMES) + len(KINDS), labels, means[labels], labels, 3)

    def augment(self, inputs, keys):
        return jitter(inputs)


def jitter(inputs):
    return inputs + 0.01
'''

HELPERS = """
SHIFT = 0.25
SCALES = {"inner": [1.0, 2.0]}
def twice(function):
    def inner(*given):
        return 2 * function(*given)
    return inner
"""

STUDY = '''
"""A study of everything that a user may write."""
import functools
import json
import time
from pathlib import Path
import optuna
import torch
from torch import nn
from base import Blobs
from lab.helpers import SCALES, twice
from hpo import Configuration, Dataset, Optimizer, Regularizer, Study, log_range, per_model

WIDTH = 4
SHARPNESS = 0.1
SCORES = [lambda o, y: o[:, 0], lambda o, y: o[:, 1]]
ACTIVATIONS = {"net": torch.relu, "options": {"slope": 0.1}}
TABLE = json.loads((Path(__file__).parent / "table.json").read_text())
WEIGHTS = torch.tensor(TABLE)
HERE = str(Path(__file__).parent / "cache")
STARTED = time.time()
RATES = {"learning_rate": log_range(1e-3, 1e-1), "weight_decay": 0.0}
COUNTS = [0]
COUNTS[0] += 1


class Layer(nn.Module):
    """A layer."""
    slope = 0.5

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(1, width)

    @property
    def factor(self):
        return 3.0

    def forward(self, inputs):
        return ACTIVATIONS["net"](self.linear(inputs)) * self.slope * self.factor * WEIGHTS.sum() * SCALES["inner"][0]


class Net(Layer):
    def forward(self, inputs):
        def inner(x):
            return x + 1  # a comment
        return inner(super().forward(inputs))


def make_model(width, bias=True):
    return lambda: Net(width + bias)


class Focal(nn.Module):
    def __init__(self, gamma):
        super().__init__()
        self.gamma = gamma
        self.reach = dict(low=0.25)

    def forward(self, outputs, labels):
        logs = outputs.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return -((1 - logs.exp()) ** self.gamma) * logs


def sharpness(norms):
    return SHARPNESS * norms.mean() + COUNTS[0]


def grads(objective, params, state, hyper):
    from lab.lazy import LATE
    gradient, _ = objective.penalised_grad(params, lambda at: sharpness(objective.sample_grad_norms(at)) * LATE)
    return gradient, state, {"age": torch.tensor(time.time() - STARTED)}


@twice
def hits(outputs, labels):
    return (outputs.argmax(-1) == labels).float()


def falling(step, steps, steps_per_epoch, power=2):
    return (1 - step / steps) ** power


def update(gradients, state, params, hyper):
    return {name: leaf - hyper["learning_rate"] * gradients[name] for name, leaf in params.items()}, state


def pruner(steps=5):
    return optuna.pruners.MedianPruner(n_warmup_steps=steps)


class Own(Blobs):
    """The data."""
    path = HERE

    def load(self):
        return super().load()


LOSS = Focal(1.0)

STUDY = Study(
    title="A title",
    hypothesis="What is expected",
    data=Own(),
    model=make_model(WIDTH),
    loss=LOSS,
    schedule=falling,
    pruner=pruner,
    metrics={"hits": hits, "first": SCORES[0], "misses": lambda outputs, labels: (outputs.argmax(-1) != labels).float()},
    baseline="A",
    epochs=2,
    batch_size=8,
    trials=2,
    seeds=2,
    configurations=(
        Configuration("A", space=RATES),
        Configuration("B", space=RATES, regularizer=Regularizer("mine", grads, {"strength": 0.1}, init=functools.partial(dict))),
        Configuration("C", space={"learning_rate": 0.1}, optimizer=per_model("own", lambda params: {}, update, {"learning_rate": 0.1})),
    ),
)
'''
FILES = {
    "studies/s.py": STUDY,
    "base.py": BASE,
    "lab/__init__.py": "",
    "lab/helpers.py": HELPERS,
    "lab/lazy.py": "LATE = 1.0\nfrom . import later\n",
    "lab/later.py": "LATEST = 1.0\n",
    "studies/table.json": "[1.0, 2.0]",
}
S, B, H = "studies/s.py", "base.py", "lab/helpers.py"

# file, old text, new text, and a name that tells the person where the change is.
SEEN = {
    "constant": (S, "WIDTH = 4", "WIDTH = 32", "model: width"),
    "class behind the model": (S, "return x + 1", "return x + 2", "study file: Net"),
    "base class": (S, 'ACTIVATIONS["net"](self', "torch.tanh(self", "study file: Layer"),
    "class attribute": (S, "slope = 0.5", "slope = 0.6", "study file: Layer"),
    "property": (S, "return 3.0", "return 4.0", "study file: Layer"),
    "closure's value": (S, "make_model(WIDTH)", "make_model(5)", "model: width"),
    "keyword of the factory": (S, "make_model(WIDTH)", "make_model(WIDTH, bias=3)", "model: bias"),
    "default argument": (S, "bias=True", "bias=False", "study file: make_model"),
    "attribute of a loss": (S, "Focal(1.0)", "Focal(5.0)", "loss.gamma"),
    "dict in a loss": (S, "low=0.25", "low=0.26", "study file: Focal"),
    "regularizer": (S, "sample_grad_norms(at)", "sample_grad_norms(at, epsilon=1)", "study file: grads"),
    "regularizer's helper": (S, "norms.mean()", "norms.max()", "study file: sharpness"),
    "constant of the helper": (S, "SHARPNESS = 0.1", "SHARPNESS = 10.0", "study file: SHARPNESS"),
    "init of the regularizer": (S, "functools.partial(dict)", "functools.partial(dict, a=1)", "regularizer of B.init"),
    "value in a dict constant": (S, '"slope": 0.1', '"slope": 0.2', "study file: ACTIVATIONS"),
    "function in a dict constant": (S, "torch.relu", "torch.sigmoid", "study file: ACTIVATIONS"),
    "mutated global": (S, "COUNTS[0] += 1", "COUNTS[0] += 2", "study file: COUNTS"),
    "metric": (S, "(outputs.argmax(-1) == labels)", "(outputs.argmin(-1) == labels)", "study file: hits"),
    "lambda in the study": (S, "(outputs.argmax(-1) != labels)", "(outputs.argmin(-1) != labels)", "study file: STUDY"),
    "choice among lambdas of one line": (S, "SCORES[0]", "SCORES[1]", "metric first"),
    "decorator": (S, "@twice\n", "", "study file: hits"),
    "decorator's body": (H, "2 * function", "3 * function", "lab/helpers.py: twice"),
    "schedule": (S, "power=2", "power=3", "study file: falling"),
    "optimizer": (S, "leaf - hyper", "leaf + hyper", "study file: update"),
    "optimizer's init": (S, "lambda params: {}", "lambda params: {'a': 1}", "study file: STUDY"),
    "pruner": (S, "steps=5", "steps=6", "study file: pruner"),
    "data set's method": (S, "return super().load()", "return Blobs.load(self)", "study file: Own"),
    "base class in another file": (B, "arange(3.0)", "arange(4.0)", "base.py: Blobs"),
    "augmentation's helper": (B, "inputs + 0.01", "inputs + 0.02", "base.py: jitter"),
    "constant of another module": (B, "SPREAD = 1.5", "SPREAD = 0.1", "base.py: SPREAD"),
    "set constant": (B, '{"a", "b", "c", "d"}', '{"a", "b", "c", "e"}', "base.py: NAMES"),
    "constant of a module of a module": (H, "SHIFT = 0.25", "SHIFT = 0.5", "lab/helpers.py: SHIFT"),
    "constant imported by name": (H, "[1.0, 2.0]", "[1.5, 2.0]", "lab/helpers.py: SCALES"),
    "module imported inside a function": ("lab/lazy.py", "LATE = 1.0", "LATE = 2.0", "lab/lazy.py: LATE"),
    "module imported by that one": ("lab/later.py", "LATEST = 1.0", "LATEST = 2.0", "lab/later.py: LATEST"),
    "data file of a constant": ("studies/table.json", "[1.0, 2.0]", "[1.0, 2.5]", "model: Net: Layer.forward: WEIGHTS"),
    "statement without a name": (
        S,
        "class Layer",
        "torch.set_num_threads(1)\n\n\nclass Layer",
        "study file: top-level",
    ),
    "another object of that name": (S, "from base import Blobs", "from lab.other import Blobs", "study file: imports"),
    "package's own code": ("lab/__init__.py", "", "import torch\n", "lab.py: imports"),
}
UNSEEN = {
    "comment": (S, "  # a comment", "  # another comment"),
    "docstring of a class": (S, '"""A layer."""', '"""Another."""'),
    "docstring of a module": (B, '"""Shared parts."""', '"""Parts.\n\nMore.\n"""'),
    "docstring added": (S, "def update(gradients, state, params, hyper):\n", 'def update(gradients, state, params, hyper):\n    """Plain."""\n'),
    "layout": (S, "def make_model(width, bias=True):\n", "def make_model(\n    width,\n\n    bias = (True),\n):\n\n"),
    "quotes and number's spelling": (S, 'dict(low=0.25)', 'dict(low=2.5e-1)'),
    "title": (S, '"A title"', '"Another " + str(3)'),
    "hypothesis": (S, "What is expected", "What was expected"),
    "trials": (S, "trials=2", "trials=3"),
    "seeds": (S, "seeds=2", "seeds=20"),
    "name": (S, "trials=2", 'name="s", tuning_repeats=2'),
    "range, which the definition says": (S, "log_range(1e-3, 1e-1)", "log_range(1e-3, 1)"),
    "another study's space": (S, "class Layer", "SPACE = {'learning_rate': 3}\n\n\nclass Layer"),
    "order and blanks of imports": (S, "import functools\nimport json\n", "import json\n\nimport functools\n"),
    "imports in one": (S, "import functools\nimport json\n", "import functools, json\n"),
}  # fmt: skip


def write(folder: Path, **changes: str) -> None:
    for name, text in (FILES | changes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, str]]]:
    """The fingerprint of the study after an edit, each in a folder of its own, with nothing imported before."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] in ("base", "lab", "hpo_study_s")]:
            del sys.modules[name]

    def after(file: str = S, old: str = "", new: str = "", name: str = "first", reference: str = "s") -> dict[str, str]:
        assert not old or FILES[file].count(old) == 1, old
        write(tmp_path / name, **{file: FILES[file].replace(old, new) if old else new or FILES[file]})
        forget()
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path / name)
            patch.setattr(sys, "path", [str(tmp_path / name), *sys.path])
            patch.setattr(sys, "dont_write_bytecode", True)
            return fingerprint(load(reference))

    yield after
    forget()


OTHER = "from base import Blobs as Parent\nclass Blobs(Parent):\n    pass\n"


@pytest.mark.parametrize("edit", SEEN)
def test_an_edit_is_seen_and_named(edit: str, prints: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    file, old, new, named = SEEN[edit]
    before = prints()
    write(tmp_path / "second", **{"lab/other.py": OTHER})
    after = prints(file, old, new, name="second")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert any(name.startswith(named) for name in changed), changed


@pytest.mark.parametrize("edit", UNSEEN)
def test_what_changes_nothing_is_not_seen(edit: str, prints: Callable[..., dict[str, str]]) -> None:
    before, after = prints(), prints(*UNSEEN[edit], name="second")
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()


def test_the_same_in_every_process_folder_and_order_of_hashing(tmp_path: Path) -> None:
    """Second runs read compiled files, whose constants are other objects than those of the first."""
    script = "import json, hpo; from hpo.fingerprint import fingerprint; print(json.dumps(fingerprint(hpo.load('s'))))"
    outputs = []
    for folder, seed in (("one", "1"), ("one", "2"), ("two/deeper", "3")):
        write(tmp_path / folder)
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path / folder), *sys.path])
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path / folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        outputs.append(json.loads(done.stdout))
    assert len(outputs[0]) > 30
    assert outputs[0] == outputs[1] == outputs[2]
