"""Whose results a change of the code concerns: never too few configurations, and not more where names tell."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpo import load
from hpo.storage.ledger.changed_code import concerned
from hpo.study.code_users import code_users
from hpo.study.fingerprint import fingerprint
from tests.study.test_edits import EDITS, HEAD, TAIL, inlined

STUDY = """
import torch
from hpo import MLP, Configuration, Mnist1d, Study, from_torch, log_range
from parts import scale

FACTOR = 2.0

def helper(value):
    return value * FACTOR

def mark(function):
    return function

def other(value):
    return value + 1

class First(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, dict(lr=lr))

    @torch.no_grad()
    def step(self, closure=None):
        return first_step(self)

def first_step(optimizer):
    return scale(1.0)

class Second(First):
    def step(self, closure=None):
        return other(2)

def net():
    return torch.nn.Linear(40, 10)

STUDY = Study(
    data=Mnist1d(samples=100), model=net, baseline="A", epochs=1, trials=1, seeds=2,
    configurations=(
        Configuration("A"),
        Configuration("First", optimizer=from_torch(First, lr=log_range(1e-3, 1))),
        Configuration("Second", optimizer=from_torch(Second, lr=log_range(1e-3, 1))),
    ),
)
"""
PARTS = "def scale(value):\n    return value * SIZE\nSIZE = 3\nscale2 = scale\n"
FIRST, BOTH, ALL = ["First"], ["First", "Second"], None
# A change of the study file or of parts.py, what both versions have in addition, and the configurations concerned.
CHANGES = {
    "a function that one optimizer uses": ("scale(1.0)", "scale(2.0)", ("", ""), BOTH),  # Second inherits its name
    "a function of the other": ("value + 1", "value + 2", ("", ""), ["Second"]),
    "a class that the other extends": ("lr=0.1", "lr=0.2", ("", ""), BOTH),
    "another module": ("SIZE = 3", "SIZE = 4", ("", ""), BOTH),
    "the network": ("Linear(40, 10)", "Linear(40, 10, bias=False)", ("", ""), ALL),
    "what nothing uses": ("FACTOR = 2.0", "FACTOR = 3.0", ("", ""), ALL),
    "what the network uses as well": ("value + 1", "value + 2", ("Linear(40, 10)", "Linear(40, other(9))"), ALL),
    "what a text names": ("value + 1", "value + 2", ("first_step(self)", "getattr(torch, 'other')"), BOTH),
    "a computed name": ("value + 1", "value + 2", ("first_step(self)", "globals()['ot' + 'her'](1)"), ALL),
    "a computed attribute": ("value + 1", "value + 2", ("first_step(self)", "getattr(torch, 'ot' + 'her')"), ALL),
    "a change at the import": (
        "value + 1",
        "value + 2",
        ("FACTOR = 2.0", "torch.nn.Linear.twice = lambda s: other(s)"),
        ALL,
    ),
    "a call at the import": ("value + 1", "value + 2", ("STUDY = ", "other(1)\nSTUDY = "), ALL),
    "a decorator": ("scale(1.0)", "scale(2.0)", ("def first_step", "@mark\ndef first_step"), ALL),
    "a decorator that is removed": (
        "@mark\ndef first_step",
        "def first_step",
        ("def first_step", "@mark\ndef first_step"),
        ALL,
    ),
    "a class with a hook": (
        "value + 1",
        "value + 2",
        ("class Second(First):", "class Hook:\n    def __init_subclass__(cls): pass\n\nclass Second(Hook, First):"),
        ALL,
    ),
    "code in a class": (
        "value + 1",
        "value + 2",
        ("class Second(First):", "class Second(First):\n    z = other(1)"),
        ALL,
    ),
    "a missing import": ("import torch\n", "import math\nimport torch\n", ("value + 1", "value + math.pi"), ["Second"]),
    "an import for the network": (
        "import torch\n",
        "import math\nimport torch\n",
        ("Linear(40, 10)", "Linear(40, math.ceil(9.5))"),
        ALL,
    ),
    "another object of that name": (
        "import scale\n",
        "import scale2 as scale\n",
        ("import scale\n", "import scale\n\n"),
        BOTH,
    ),
    "an import that nothing uses": ("import torch\n", "import pytest\nimport torch\n", ("", ""), ALL),
    "an import of any package": ("import torch\n", "import pytest\nimport torch\n", ("value + 1", "pytest.x"), ALL),
    "a lambda": (
        "value + 1",
        "value + 2",
        ("def other(value):\n    return value + 1", "other = lambda value: value + 1"),
        ["Second"],
    ),
}


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("parts", None)


def version(study: str, parts: str, number: int) -> tuple[dict[str, str], dict[str, Any]]:
    Path("s.py").write_text(study)
    Path("parts.py").write_text(parts)
    for name in ("s.py", "parts.py"):
        os.utime(name, (number, number))  # what Python has compiled is another version's
    sys.modules.pop("parts", None)
    importlib.invalidate_caches()
    loaded = load("s.py")
    return fingerprint(loaded), code_users(loaded)


def change(old: tuple[dict[str, str], dict[str, Any]], new: tuple[dict[str, str], dict[str, Any]]) -> object:
    row = SimpleNamespace(fingerprint=old[0], text={"code": old[1]})
    return concerned(row, *new)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_concerns_these(name: str) -> None:
    old, new, (before, after), expected = CHANGES[name]
    text = STUDY.replace(before, after) if before else STUDY
    assert (text != STUDY) == bool(before) and (old in text) != (old in PARTS)
    first = version(text, PARTS, 1)
    second = version(text.replace(old, new), PARTS.replace(old, new), 2)
    assert first[0] != second[0]
    assert change(first, second) == change(second, first) == expected
    assert change(first, first) == []


@pytest.mark.parametrize("name", EDITS)
def test_no_configuration_is_missed(name: str) -> None:
    """Each edit changes a part that all configurations have, or the regularizer of B."""
    edit, _, code = EDITS[name].partition("\n")
    old, new = edit.split(" -> ")
    for text in (HEAD + code + TAIL, HEAD + inlined(code)):
        versions = []
        for number, each in enumerate((text, text.replace(old, new))):
            versions.append(version(each, "", number))
        found = change(*versions)
        if versions[0][0] != versions[1][0]:  # else the definition has the change
            assert found is None or ("REG = " in code and found == ["B"])
