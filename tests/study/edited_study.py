"""A study of everything that a user may write, over several files."""

from pathlib import Path

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

    @functools.cached_property
    def means(self):
        return torch.arange(3.0)

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
    metrics={
        "hits": hits,
        "first": SCORES[0],
        "misses": lambda outputs, labels: (outputs.argmax(-1) != labels).float(),
    },
    baseline="A",
    epochs=2,
    batch_size=8,
    trials=2,
    seeds=2,
    configurations=(
        Configuration("A", space=RATES),
        Configuration(
            "B",
            space=RATES,
            regularizer=Regularizer("mine", grads, {"strength": 0.1}, init=functools.partial(dict)),
        ),
        Configuration("C", optimizer=per_model("own", lambda params: {}, update, {"learning_rate": 0.1})),
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


def write(folder: Path, **changes: str) -> None:
    """The study's files in a folder, some of them with another text."""
    for name, text in (FILES | changes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
