"""The search space of a configuration: which hyperparameters are tuned, which exist only sometimes, which are fixed."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpo.errors import did_you_mean
from hpo.search_space import Bounds, Choice, Entry, Range, Value, When
from hpo.stages import Stages

Setting = dict[str, Value]


@dataclass(frozen=True)
class Space:
    """The search space of a configuration.

    Attributes:
        tuned: hyperparameter → its range or choices, also of those that exist in some settings only.
        conditions: hyperparameter → when it exists, of these only. fixed: the values of those that are not tuned.
        names: all of them, in the order of the definition.
    """

    names: tuple[str, ...]
    tuned: Mapping[str, Bounds]
    conditions: Mapping[str, When]
    fixed: Mapping[str, Value]

    def complete(self, setting: Mapping[str, Value]) -> Setting:
        """Every hyperparameter with its value: fixed, else of this setting, else where it does not exist."""
        values = self.known(setting)
        return {name: values[name] for name in dict.fromkeys([*self.names, *setting])}

    def known(self, setting: Mapping[str, Value]) -> Setting:
        """As `complete`, of a setting that may leave hyperparameters out, without these."""
        others = {name: condition.otherwise for name, condition in self.conditions.items()}
        values = {**self.fixed, **others, **setting}
        return {name: values[name] for name in dict.fromkeys([*self.names, *setting]) if name in values}

    def exists(self, name: str, setting: Mapping[str, Value]) -> bool:
        """Whether a tuned hyperparameter exists in a setting that has all without a condition."""
        return name not in self.conditions or self.conditions[name].applies(setting)

    def objection(self, setting: Mapping[str, Any]) -> str:
        """Why this setting, which may leave hyperparameters out, cannot be tried, in words; empty if it can."""
        return next(self._objections(setting), "")

    def _objections(self, setting: Mapping[str, Any]) -> Iterator[str]:
        for name, value in setting.items():
            if name in self.fixed:
                yield f"{name} is fixed at {self.fixed[name]!r}"
            elif name not in self.tuned:
                tuned = ", ".join(self.tuned)
                yield f"there is no hyperparameter {name!r} (tuned: {tuned}){did_you_mean(name, self.tuned)}"
            elif not self.tuned[name].contains(value):
                yield f"{name} is {value!r}, which is outside {describe_bounds(self.tuned[name])}"
            elif (condition := self.conditions.get(name)) and not (
                condition.name in setting and condition.applies(setting)
            ):
                allowed = " or ".join(map(repr, condition.values))
                yield f"{name} only exists where {condition.name} is {allowed}, which the setting has to say"


def describe_bounds(bounds: Bounds) -> str:
    """A range or choice as a person writes it: "1e-05–0.01 (log)", "2–10 (integers)", "32, 64 or 128"."""
    if isinstance(bounds, Choice):
        *first, last = map(show_value, bounds.values)
        return f"{', '.join(first)} or {last}"
    kinds = [word for word, applies in (("integers", bounds.integer), ("log", bounds.log)) if applies]
    return f"{bounds.low:g}–{bounds.high:g}" + (f" ({', '.join(kinds)})" if kinds else "")


def show_value(value: Value) -> str:
    """A hyperparameter's value in a list or on a terminal."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def split_space(space: Mapping[str, Any]) -> Space:
    """The search space of a definition (see `definition.describe`), of entries or of what they become in JSON."""
    entries = {name: from_json(entry) for name, entry in space.items()}
    conditions = {name: entry for name, entry in entries.items() if isinstance(entry, When)}
    bounds = {name: entry.entry if isinstance(entry, When) else entry for name, entry in entries.items()}
    return Space(
        names=tuple(space),
        tuned={name: entry for name, entry in bounds.items() if isinstance(entry, Range | Choice)},
        conditions=conditions,
        fixed={name: entry for name, entry in bounds.items() if not isinstance(entry, Range | Choice)},
    )


def cmaes_generation(space: Mapping[str, Any]) -> int:
    """The size of CMA-ES's generations for the ranges of a definition's space: 4 + ⌊3 ln n⌋ (arXiv:1604.00772)."""
    split = split_space(space)
    ranges = [name for name, bounds in split.tuned.items() if isinstance(bounds, Range)]
    dimensions = len([name for name in ranges if name not in split.conditions])
    return 4 + int(3 * math.log(max(1, dimensions)))


def grid_settings(space: Space, values: Mapping[str, Sequence[Value]]) -> list[Setting]:
    """Every combination of values, in the order of the space; the first hyperparameter changes last.

    Args:
        values: of each tuned hyperparameter; of a choice by default all.
    """
    columns = [values[name] if name in values else bounds.samples() for name, bounds in space.tuned.items()]
    settings: dict[str, Setting] = {}
    for combination in itertools.product(*columns):
        whole = {name: space.tuned[name].restrict(value) for name, value in zip(space.tuned, combination, strict=True)}
        setting = {name: value for name, value in whole.items() if space.exists(name, whole)}
        settings.setdefault(repr(setting), setting)  # values of what does not exist in it make no other setting
    return list(settings.values())


def as_json(entry: Entry) -> Any:
    """An entry of a search space as JSON values; a range that is not of integers as it has always been stored."""
    if isinstance(entry, Range):
        kind = {"integer": True} if entry.integer else {}
        return {"low": entry.low, "high": entry.high, "log": entry.log, "off": entry.off, **kind}
    if isinstance(entry, Choice):
        return {"choices": list(entry.values)}
    if isinstance(entry, When):
        condition = {"when": entry.name, "is": list(entry.values), "otherwise": entry.otherwise}
        return condition | {"entry": as_json(entry.entry)}
    if isinstance(entry, Stages):
        return {"kind": "Stages", "stages": [list(pair) for pair in entry.pairs]}
    return entry


def from_json(entry: Any) -> Entry:
    """The entry that `as_json` stored."""
    if not isinstance(entry, Mapping):
        return entry
    if "stages" in entry:
        # The one fixed value that is no plain one.
        return Stages(tuple(map(tuple, entry["stages"])))  # type: ignore[return-value]
    if "choices" in entry:
        return Choice(tuple(entry["choices"]))
    if "when" in entry:
        bounds = from_json(entry["entry"])
        assert isinstance(bounds, Range | Choice)
        return When(entry["when"], tuple(entry["is"]), bounds, entry["otherwise"])
    return Range(**entry)
