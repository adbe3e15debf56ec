"""What a hyperparameter is tuned over: a range, whole numbers, a choice, or one of them under a condition."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hpo.errors import UsageError, is_number

if TYPE_CHECKING:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

Side = Literal["low", "high"]
Value = float | int | bool | str | None  # of a hyperparameter; JSON keeps each exactly
UNSET: Any = type("Unset", (), {"__repr__": lambda _: "unset"})()


@dataclass(frozen=True)
class Range:
    """An interval [low, high] in which a hyperparameter is tuned, uniformly in its value or in its logarithm.

    `off` is the end at which the regularizer has no effect (`"low"` for a penalty's weight, `"high"` for a clipping
    threshold): a best setting close to that end means that tuning switched the method off. With `integer` only the
    whole numbers of the interval are tried.
    """

    low: float
    high: float
    log: bool = False
    off: Side | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise UsageError(f"the range {self.low:g}–{self.high:g} has a bound that is not a finite number")
        if self.low >= self.high:
            raise UsageError(
                f"the range {self.low:g}–{self.high:g} has low ≥ high; "
                "write the smaller bound first, or give the value itself to keep it fixed"
            )
        if self.log and self.low <= 0:
            other = "integers without log" if self.integer else "linear_range"
            raise UsageError(f"the log range {self.low:g}–{self.high:g} touches 0; raise its low bound, or use {other}")

    @property
    def ordered(self) -> bool:
        """Whether a best value at an end says that a value beyond it might be better."""
        return True

    def position(self, value: Any) -> float:
        """The position of `value` on the range's scale: 0 at `low`, 1 at `high`."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def middle(self) -> float:
        """The value in the middle of the range's scale (the geometric mean on a log range), rounded if integer."""
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return round(middle) if self.integer else middle

    def contains(self, value: Any) -> bool:
        """Whether a setting may have this value."""
        return is_number(value) and not (self.integer and isinstance(value, float)) and self.low <= value <= self.high

    def restrict(self, value: Any) -> float:
        """A sampled value as a setting holds it: exp(log(x)) may leave the range by a rounding error."""
        restricted = min(max(float(value), self.low), self.high)
        return round(restricted) if self.integer else restricted

    def samples(self, most: int = 0) -> list[Value]:
        """A few values that stand for all: both ends and, of whole numbers, the `most` lowest."""
        numbers = range(int(self.low), int(self.high) + 1)[:most] if self.integer else ()
        return list(dict.fromkeys([self.low, *numbers, self.high]))

    def powers(self) -> list[int]:
        """The powers of two in the interval."""
        return [2**power for power in range(32) if self.low <= 2**power <= self.high]

    def as_integers(self) -> str:
        """How a study file writes the whole numbers of the interval: "integers(16, 64, log=True)"."""
        return f"integers({math.ceil(self.low)}, {math.floor(self.high)}{', log=True' if self.log else ''})"

    def distribution(self) -> "FloatDistribution | IntDistribution":
        """The same interval as an Optuna distribution."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """Values that a hyperparameter is tuned over: numbers, texts, True, False or None."""

    values: tuple[Value, ...]
    off: None = None

    def __post_init__(self) -> None:
        shown = ", ".join(map(repr, self.values))
        for value in self.values:
            if not is_plain(value):
                raise UsageError(
                    f"choice({shown}) has {value!r}; give finite numbers, texts, True, False or None, one by one"
                )
        if len(self.values) < 2:
            raise UsageError(f"choice({shown}) needs two values or more; give a single value itself to keep it fixed")
        if len(set(self.values)) < len(self.values):  # True == 1 == 1.0
            raise UsageError(f"choice({shown}) has equal values (in Python, True is 1 and False is 0); leave one out")

    def position(self, value: Any) -> float:
        """The position of `value` among the values in ascending order: 0 for the lowest, 1 for the highest."""
        return sorted(self.values, key=float).index(value) / (len(self.values) - 1)  # type: ignore[arg-type]

    @property
    def ordered(self) -> bool:
        """As of a range, for three numbers or more."""
        return len(self.values) > 2 and all(map(is_number, self.values))

    def middle(self) -> Value:
        """The value to try first: of ordered ones that in the middle, else the first."""
        if not self.ordered:
            return self.values[0]
        return sorted(self.values, key=float)[(len(self.values) - 1) // 2]  # type: ignore[arg-type]

    def contains(self, value: Any) -> bool:
        """Whether a setting may have this value; True is not 1 here."""
        return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in self.values)

    def restrict(self, value: Any) -> Value:
        """The choice that equals `value`, with its type."""
        return next(each for each in self.values if each == value)

    def samples(self, _most: int = 0) -> list[Value]:
        """All values."""
        return list(self.values)

    def distribution(self) -> "CategoricalDistribution":
        """The same choices as an Optuna distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)


@dataclass(frozen=True)
class When:
    """A hyperparameter that is tuned over `entry` only where another one has one of `values`, else `otherwise`."""

    name: str
    values: tuple[Value, ...]
    entry: Range | Choice
    otherwise: Any = UNSET

    def __post_init__(self) -> None:
        if not isinstance(self.entry, Range | Choice):
            raise UsageError(
                f"when({self.name!r}, …) has {self.entry!r}; give log_range, linear_range, integers or choice"
            )
        if self.otherwise is not UNSET and not is_plain(self.otherwise):
            raise UsageError(f"when({self.name!r}, …) has otherwise={self.otherwise!r}; give a number, text or None")

    def applies(self, setting: Mapping[str, Any]) -> bool:
        """Whether the hyperparameter is tuned in this setting, which has a value for `name`."""
        return setting.get(self.name, UNSET) in self.values


Bounds = Range | Choice
Entry = Range | Choice | When | Value


def log_range(low: float, high: float, off: Side | None = None) -> Range:
    """A range that is searched uniformly in log(value); `low` must be above 0."""
    return Range(float(low), float(high), log=True, off=off)


def linear_range(low: float, high: float, off: Side | None = None) -> Range:
    """A range that is searched uniformly in the value."""
    return Range(float(low), float(high), log=False, off=off)


def integers(low: int, high: int, log: bool = False, off: Side | None = None) -> Range:
    """The whole numbers from `low` to `high`, both included, searched uniformly in the number or in its logarithm."""
    for bound in (low, high):
        if not is_number(bound) or isinstance(bound, float):
            raise UsageError(f"integers({low!r}, {high!r}) has the bound {bound!r}; give whole numbers")
    return Range(low, high, log, off, integer=True)


def choice(*values: Value) -> Choice:
    """A choice between values that have no order for the sampler: numbers, texts, True, False or None."""
    if len(values) == 1 and isinstance(values[0], list | tuple):
        values = tuple(values[0])
        raise UsageError(f"choice takes values, not a list of them; write choice({', '.join(map(repr, values))})")
    return Choice(values)


def when(name: str, value: Value | tuple[Value, ...], entry: Range | Choice, otherwise: Any = UNSET) -> When:
    """A hyperparameter that only exists where another one has a certain value.

    Args:
        name: the other hyperparameter, tuned by `choice` or `integers`. value: its value, or a tuple of values.
        entry: what the hyperparameter is tuned over there.
        otherwise: its value elsewhere; it may be left out if the hyperparameter's default is a single value.
    """
    return When(name, value if isinstance(value, tuple) else (value,), entry, otherwise)


def is_plain(value: object) -> bool:
    """Whether a value can be a hyperparameter's: a finite number, a text, True, False or None."""
    return value is None or isinstance(value, str | bool) or is_number(value)
