"""What user code reaches: values in every kind of container, and what is not followed."""

import collections
import dataclasses
import enum
import functools
import itertools
import random
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from hpo import MLP, Mnist1d
from hpo.optim.optimizers import OPTIMIZERS, per_model
from hpo.user_code.reachable import is_user_code, reachable

WIDTH = 4
UNUSED = 5
COUNT = [0]
FACTOR = 1.5


def found(**roots: Any) -> dict[str, Any]:
    return dict(reachable(roots))


def helper(value: Any) -> Any:
    return value * FACTOR


def counts(by: int = 3, *, start: Any = COUNT) -> int:
    def inner() -> int:
        return helper(WIDTH) + by

    COUNT[0] += 1
    return inner() + start[0]


counts.seen = {"steps": 7}  # type: ignore[attr-defined]


class Base:
    __slots__ = ("__dict__",)
    decay = 0.25

    def scale(self) -> float:
        return FACTOR


class Focal(Base):
    __slots__ = ("gamma", "missing")
    table: Any = {"power": 2.0}  # noqa: RUF012

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self.extra = [gamma + 1]

    @property
    def twice(self) -> int:
        return 2 * WIDTH

    @staticmethod
    def power() -> list[int]:
        return COUNT

    def __call__(self) -> Any:
        return helper(self.gamma)


def test_a_functions_globals_defaults_attributes_and_nested_functions() -> None:
    paths = found(grads=counts)
    assert paths["grads"] is counts
    assert (paths["grads: WIDTH"], paths["grads: by"], paths["grads: COUNT[0]"]) == (4, 3, COUNT[0])
    assert paths["grads: helper: FACTOR"] == 1.5
    assert paths["grads.seen['steps']"] == 7
    assert not any("UNUSED" in path for path in paths)


def test_closures_and_a_variable_without_a_value_yet() -> None:
    def make(width: int) -> Callable[[], Any]:
        def model() -> Any:
            return nn.Linear(width, later)

        early = found(model=model)
        assert early["model: width"] == width and "model: later" not in early
        later = 3
        return model

    assert found(model=make(8))["model: later"] == 3


def test_instances_slots_classes_bases_and_descriptors() -> None:
    paths = found(loss=Focal(2.0))
    assert paths["loss.gamma"] == 2.0
    assert paths["loss.extra[0]"] == 3.0
    assert paths["loss: Focal.table['power']"] == 2.0
    assert paths["loss: Focal: Base.decay"] == 0.25
    assert paths["loss: Focal.twice.fget: WIDTH"] == 4
    assert paths["loss: Focal.power.__func__: COUNT"] is COUNT
    assert paths["loss: Focal.__call__: helper"] is helper
    assert paths["loss: Focal: Base.scale: FACTOR"] == 1.5
    assert not any("missing" in path and "Focal" not in path for path in paths)


def test_methods_partials_and_decorated_functions() -> None:
    assert found(loss=Focal(2.0).scale)["loss.__self__.gamma"] == 2.0
    partial = found(model=functools.partial(helper, 3, width=WIDTH))
    assert (partial["model: argument 1"], partial["model: width"], partial["model.func: FACTOR"]) == (3, 4, 1.5)
    assert found(f=functools.lru_cache(helper))["f.__wrapped__: FACTOR"] == 1.5
    assert helper in found(f=torch.no_grad()(helper)).values()
    lifted = per_model("own", dict, lambda *given: helper(given), OPTIMIZERS["sgd"].hyperparameters)
    assert helper in found(update=lifted.update).values()
    assert found(optimizer=lifted)["optimizer.name"] == "own"


class Pair(NamedTuple):
    left: Any
    right: Any


class Kind(enum.Enum):
    ONE = 11


def test_containers() -> None:
    paths = found(
        d={"a": 1, (1, 2): 2, helper: 3}, l=[1, 1, [2]], q=collections.deque([5]), s={"b", "a"},
        m=types.MappingProxyType({"x": 6}), n=types.SimpleNamespace(y=7), p=Pair(8, 9), e=Kind.ONE,
    )  # fmt: skip
    expected = {
        "d['a']": 1, "d[(1, 2)]": 2, "d[helper]": 3, "l[0]": 1, "l[1]": 1, "l[2][0]": 2, "q[0]": 5,
        "s{'a'}": "a", "s{'b'}": "b", "m['x']": 6, "n.y": 7, "p.left": 8, "p.right": 9, "e._value_": 11,
    }  # fmt: skip
    assert {path: paths[path] for path in expected} == expected


def test_a_long_container_of_plain_values_is_one_value() -> None:
    long = found(table=list(range(1000)))
    assert list(long) == ["table"]
    assert len(found(table=list(range(20)))) == 21
    assert found(table=[*range(1000), [5]])["table[1000][0]"] == 5


def test_modules_by_pytorchs_names() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    paths = found(net=net)
    named = {f"net.{name}" for name, _ in [*net.named_parameters(), *net.named_buffers()]}
    assert named < set(paths)
    assert paths["net.0.weight"] is net[0].weight and paths["net.1.eps"] == 1e-5
    assert not any("hooks" in path for path in paths)
    net[0].register_forward_hook(lambda *given: helper(given))
    assert helper in found(net=net).values()


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float = 0.5
    steps: list[int] = dataclasses.field(default_factory=lambda: [WIDTH])


def test_dataclasses_of_the_user_but_not_of_hpo() -> None:
    paths = found(loss=Settings(0.75))
    assert paths["loss.rate"] == 0.75 and paths["loss.steps[0]"] == 4
    assert paths["loss: Settings.steps: WIDTH"] == 4
    assert not any("__eq__" in path or "__init__" in path for path in paths)
    assert list(found(data=Mnist1d(), model=MLP((40, 10)))) == ["data", "model"]


def test_leaves_are_not_followed() -> None:
    leaves = [
        torch.zeros(2), np.zeros(2), random.Random(0), np.random.default_rng(0), torch.Generator(), itertools.count(),
        threading.Lock(), np.mean, torch.relu, Path("a"), 1.0, "text", None,
    ]  # fmt: skip
    assert list(reachable({"leaves": leaves})) == [
        ("leaves", leaves),
        *((f"leaves[{place}]", leaf) for place, leaf in enumerate(leaves)),
    ]


def test_modules_of_the_user_and_imports_inside_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reached_lab").mkdir()
    (tmp_path / "reached_lab" / "parts.py").write_text("SCALE = 2\nOTHER = 3\nLATE = 4\ndef use(): return OTHER\n")
    (tmp_path / "reached_study.py").write_text(
        "import reached_lab.parts\nimport torch\n"
        "def model(): return reached_lab.parts.SCALE * torch.ones(1)\n"
        "def lazy():\n    from reached_lab.parts import use, LATE\n    return use()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import reached_study  # type: ignore[import-not-found]

    paths = found(model=reached_study.model, lazy=reached_study.lazy)
    assert paths["model: reached_lab.parts.SCALE"] == 2
    assert paths["lazy: reached_lab.parts.LATE"] == 4
    assert paths["lazy: reached_lab.parts.use: OTHER"] == 3
    for name in ("reached_study", "reached_lab", "reached_lab.parts"):
        sys.modules.pop(name)


class Trap:
    """Every operation fails."""

    def fail(self, *_: Any) -> Any:
        raise RuntimeError

    __eq__ = __hash__ = __repr__ = __getattribute__ = __getattr__ = fail
    broken = property(fail)


@dataclasses.dataclass(frozen=True)
class Folder:
    name: str = "blobs"
    place: str = dataclasses.field(default="/data", metadata={"described": False})


def test_fields_that_concern_only_the_machine_are_left_out() -> None:
    assert found(data=Folder(place="/mnt"))["data.name"] == "blobs"
    assert not any(value == "/mnt" for value in found(data=Folder(place="/mnt")).values())


def test_equal_constants_are_found_at_every_path() -> None:
    """The compiler may make one object of two equal tuples."""
    one = (1, (2, 3))
    other = (1, tuple(range(2, 4)))
    assert found(a=one, b=one) == found(a=one, b=other)


def test_unusual_objects_cycles_depth_and_size() -> None:
    trap = Trap()
    object.__setattr__(trap, "kept", 5)
    assert found(x=trap)["x.kept"] == 5
    ring: list[Any] = [1]
    ring.append(ring)
    assert list(reachable({"ring": ring})) == [("ring", ring), ("ring[0]", 1)]
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    assert len(found(deep=deep)) == 3001
    assert len(list(reachable({"many": [[place] for place in range(1000)]}, limit=100))) == 100
    shared = [[1], 2]
    assert sum(value is shared for _, value in reachable({"a": shared, "b": [shared]})) == 1


def test_is_user_code() -> None:
    user_objects = [helper, Focal, Focal(1.0), Focal(1.0).scale, helper.__code__, sys.modules[__name__], lambda: 0]
    typed: dict[str, Any] = {"__name__": "__main__"}
    exec("def f(): pass\nclass C: pass", typed)
    assert [is_user_code(thing) for thing in [*user_objects, typed["f"], typed["C"]]] == [True] * 9
    others = [torch.relu, nn.Linear, nn.Linear(1, 1), functools.wraps, collections, pytest.raises, MLP, len, 1, np.mean]
    assert [is_user_code(thing) for thing in others] == [False] * len(others)


def test_it_takes_milliseconds() -> None:
    """Measured 0.2 ms for functions and 2 ms for a network of 60 layers; ten times that would be too slow."""
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(60)))
    roots = {"grads": counts, "loss": Focal(1.0), "net": net}
    list(reachable(roots))
    times = []
    for _ in range(5):
        start = time.process_time()
        list(reachable(roots))
        times.append(time.process_time() - start)
    assert min(times) < 0.02
