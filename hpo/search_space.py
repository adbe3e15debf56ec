"""Search spaces: which hyperparameters are tuned, in which range and on which scale."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hpo.errors import UsageError

if TYPE_CHECKING:
    from optuna.distributions import FloatDistribution

Side = Literal["low", "high"]


@dataclass(frozen=True)
class Range:
    """An interval [low, high] in which a hyperparameter is tuned, uniformly in its value or in its logarithm.

    `off` is the end at which the regularizer has no effect (`"low"` for a penalty's weight, `"high"` for a clipping
    threshold): a best setting close to that end means that tuning switched the method off.
    """

    low: float
    high: float
    log: bool = False
    off: Side | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise UsageError(f"the range {self.low:g}–{self.high:g} has a bound that is not a finite number")
        if self.low >= self.high:
            raise UsageError(
                f"the range {self.low:g}–{self.high:g} has low ≥ high; "
                "write the smaller bound first, or give the value itself to keep it fixed"
            )
        if self.log and self.low <= 0:
            raise UsageError(
                f"the log range {self.low:g}–{self.high:g} touches 0; raise its low bound, or use linear_range"
            )

    def position(self, value: float) -> float:
        """The position of `value` on the range's scale: 0 at `low`, 1 at `high`."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def middle(self) -> float:
        """The value in the middle of the range's scale (the geometric mean on a log range)."""
        return math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2

    def distribution(self) -> "FloatDistribution":
        """The same interval as an Optuna distribution."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log)


def log_range(low: float, high: float, off: Side | None = None) -> Range:
    """A range that is searched uniformly in log(value); `low` must be above 0."""
    return Range(float(low), float(high), log=True, off=off)


def linear_range(low: float, high: float, off: Side | None = None) -> Range:
    """A range that is searched uniformly in the value."""
    return Range(float(low), float(high), log=False, off=off)


def split_space(space: Mapping[str, Any]) -> tuple[dict[str, Range], dict[str, float]]:
    """Splits the space of a definition (see `definition.describe`) into tuned and fixed hyperparameters.

    Args:
        space: name → number, `Range`, or the dict that a `Range` becomes in JSON.

    Returns:
        (ranges by name, fixed values by name), both in the order of `space`.
    """
    ranges: dict[str, Range] = {}
    fixed: dict[str, float] = {}
    for name, entry in space.items():
        if isinstance(entry, Range):
            ranges[name] = entry
        elif isinstance(entry, Mapping):
            ranges[name] = Range(**entry)
        else:
            fixed[name] = float(entry)
    return ranges, fixed
