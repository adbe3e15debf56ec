"""The fingerprint of studies that are given as objects: in a notebook, of built-in parts, with odd values."""

import argparse
import array
import collections
import configparser
import functools
import io
import json
import operator
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hpo import MLP, Configuration, Constant, CrossEntropy, Mnist1d, Regularizer, Study
from hpo.optim.regularizers import REGULARIZERS
from hpo.study.fingerprint import fingerprint


def study(**changes: Any) -> Study:
    configurations = (Configuration("A"), Configuration("B", regularizer="gnvr"))
    fields: dict[str, Any] = {"data": Mnist1d(samples=100), "model": MLP((40, 8, 10)), "configurations": configurations}
    return Study(**(fields | {"baseline": "A", "batch_size": 16, "epochs": 2} | changes))


def typed_in(source: str, **variables: Any) -> dict[str, Any]:
    """The variables of a notebook after a cell: its functions have no file."""
    space: dict[str, Any] = {"__name__": "__main__", **variables}
    exec(source, space)
    return space


def test_what_is_not_the_users_is_left_to_the_definition() -> None:
    parts: list[dict[str, Any]] = [
        {},
        {"loss": CrossEntropy(0.1), "schedule": Constant()},
        {"model": functools.partial(nn.Linear, 40, out_features=10)},
        {"configurations": (Configuration("A", optimizer="sgd"), Configuration("B", regularizer=REGULARIZERS["gnvr"]))},
    ]
    assert [fingerprint(study(**part)) for part in parts] == [{}] * len(parts)
    one, other = (fingerprint(study(loss=nn.CrossEntropyLoss(label_smoothing=value))) for value in (0.1, 0.2))
    assert one.keys() == other.keys() and {name for name in one if one[name] != other[name]} == {"loss.label_smoothing"}


NET = "class Net:\n width = {}\n def __call__(self): return {}\nmodel = Net()"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def model(): return 1", "def model(): return 2"),
        ("def model(): return a.b", "def model(): return a.c"),
        ("def model():\n def f(): return 1\n return f", "def model():\n def f(): return 2\n return f"),
        ("model = lambda: 1", "model = lambda: 2"),
        ("W = 1\ndef model(): return W", "W = 2\ndef model(): return W"),
        ("def model(w=1): return w", "def model(w=2): return w"),
        (NET.format(1, 1), NET.format(1, 2)),
        (NET.format(1, 1), NET.format(2, 1)),
    ],
)  # fmt: skip
def test_code_typed_into_a_notebook(before: str, after: str) -> None:
    prints = [fingerprint(study(model=typed_in(text)["model"])) for text in (before, before, after)]
    assert prints[0] == prints[1] != prints[2]
    spaced = "# a comment\n\n" + before.replace("\n", "   # another\n")
    assert fingerprint(study(model=typed_in(spaced)["model"])) == prints[0]
    documented = 'def model():\n    "{}"\n    return 1'
    first, second = (typed_in(documented.format(words))["model"] for words in ("Words.", "Other words."))
    assert fingerprint(study(model=first)) == fingerprint(study(model=second))


def test_functions_that_share_a_name_all_count() -> None:
    def make(first: str, second: str) -> dict[str, str]:
        space = typed_in(f"a = lambda params: {first}\nb = lambda *given: {second}")
        regularizer = Regularizer("mine", space["b"], {"lambda": 0.1}, init=space["a"])
        return fingerprint(study(configurations=(Configuration("A"), Configuration("B", regularizer=regularizer))))

    assert make("{}", "1") == make("{}", "1")
    assert len({json.dumps(make(*bodies)) for bodies in (("{}", "1"), ("{}", "2"), ("[]", "1"), ("1", "{}"))}) == 4


def test_an_environment_variable_that_a_function_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for data: its samples are compared, and their folder may differ between machines."""
    model = typed_in("import os\ndef model(): return os.environ['SCALE_Z']")["model"]
    data = typed_in("import os, hpo\nclass Own(hpo.Dataset):\n def load(self): return os.environ['SCALE_Z']")["Own"]
    prints = []
    for text in ("1", "2"):
        monkeypatch.setenv("SCALE_Z", text)
        prints.append([fingerprint(study(model=model)), fingerprint(study(data=data()))])
    assert prints[0][0] != prints[1][0] and prints[0][1] == prints[1][1]


def _archive(value: float) -> Any:
    held = io.BytesIO()
    np.savez(held, weights=np.array([value]))
    return np.load(io.BytesIO(held.getvalue()))


def _settings(value: float) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_dict({"net": {"width": str(value)}})
    return parser


HOLDERS: dict[str, Callable[[float], Any]] = {
    "archive": _archive,
    "settings file": _settings,
    "options": lambda value: argparse.Namespace(width=value),
    "chain of dicts": lambda value: collections.ChainMap({}, {"width": value}),
    "dict of a class": lambda value: collections.UserDict({"width": value}),
    "list of a class": lambda value: collections.UserList([value]),
    "array": lambda value: array.array("d", [value]),
    "bytes": lambda value: bytearray([int(value)]),
    "view of bytes": lambda value: memoryview(bytes([int(value)])),
    "objects in an array": lambda value: np.array([value, None], dtype=object),
    "many objects in an array": lambda value: np.array([value, *[None] * 100], dtype=object),
    "polynomial": lambda value: np.poly1d([value, 1.0]),
    "another polynomial": lambda value: np.polynomial.Polynomial([value, 1.0]),
    "sparse tensor": lambda value: torch.tensor([[0.0, value]]).to_sparse(),
    "sparse rows": lambda value: torch.tensor([[0.0, value]]).to_sparse_csr(),
    "getter": lambda value: operator.itemgetter(int(value)),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("holder", HOLDERS)
def test_a_value_counts_in_whatever_holds_it(holder: str) -> None:
    first, same, other = (
        fingerprint(study(model=typed_in("def model(): return held", held=HOLDERS[holder](value))["model"]))
        for value in (2.0, 2.0, 3.0)
    )
    assert first == same != other


class Odd:
    """Every access to it raises an error."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    __len__ = __eq__ = __hash__ = __repr__ = __iter__ = __bool__ = lambda *_: 1 / 0  # type: ignore[assignment]


def test_odd_objects_do_no_harm() -> None:
    ring: dict[str, Any] = {}
    ring["ring"] = [ring]
    held = [Odd(), ring, open(os.devnull), iter([1]), (x for x in ()), type("Made", (), {"x": property(Odd)})()]  # noqa: SIM115, PTH123
    space = typed_in("def model(): return held, time", held=held)
    first, second = fingerprint(study(model=space["model"])), fingerprint(study(model=space["model"]))
    held[2].close()
    assert first == second != {}
