"""The verdict's metric: which test metric the configurations are compared by, and how its numbers are printed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from hpo.analysis.paired_tests import Direction, Interval, Summary
from hpo.report import formatting

RESIDUE = 1e-12  # what rounding leaves of a difference that is none


class Metric(NamedTuple):
    """A test metric that verdicts compare.

    Attributes:
        name: as reruns report it, such as `test_accuracy`. direction: which sign of a difference is the better one.
        share: whether it is a fraction, shown in percent, with differences in percentage points; a rerun that
            diverged then has the value of an untrained network, and none where this is False.
    """

    name: str
    direction: Direction
    share: bool

    @property
    def label(self) -> str:
        """In words: test accuracy."""
        return self.name.replace("_", " ")

    def value(self, value: float | None) -> str:
        """47.82%, or 1.53."""
        return formatting.percent(value) if self.share else formatting.three_digits(value)

    def spread(self, summary: Summary) -> str:
        """47.82% ± 1.73%, or 1.53 ± 0.08."""
        return formatting.percent_spread(summary) if self.share else formatting.number_spread(summary)

    def difference(self, value: float, signed: bool = True) -> str:
        """A difference without its unit: +0.19 for points, else the number."""
        if self.share:
            return formatting.points(value, signed)
        shown = formatting.three_digits(0.0 if abs(value) < RESIDUE else value)
        return f"+{shown}" if signed and value > 0 and shown.strip("0.") else shown

    def amount(self, value: float, signed: bool = True) -> str:
        """A difference with its unit: +0.19 points, or the number alone."""
        return self.difference(value, signed) + (" points" if self.share else "")

    def detectable(self, value: float) -> str:
        """A smallest detectable difference with its unit; shares cannot differ by more than 100 points."""
        return "over 100 points" if self.share and value > 1 else self.amount(value, signed=False)

    def interval(self, interval: Interval) -> str:
        """An interval of values: [46.20%, 49.44%]."""
        return self._pair(self.value(interval.low), self.value(interval.high))

    def difference_interval(self, interval: Interval) -> str:
        """An interval of differences, without its unit: [−2.20, 2.58]."""
        return self._pair(self.difference(interval.low, False), self.difference(interval.high, False))

    def margin(self, margin: float) -> str:
        """The margin in words: 1 point, 0.5 points, or the number alone."""
        return formatting.margin_points(margin) if self.share else formatting.bound(margin)

    @staticmethod
    def _pair(low: str, high: str) -> str:
        return formatting.NOTHING if low == formatting.NOTHING else f"[{low}, {high}]"


ACCURACY = Metric("test_accuracy", "maximize", share=True)


def metric_of(definition: Mapping[str, Any]) -> Metric:
    """The test metric that answers to the study's score, in the score's direction.

    A score without one (the training loss, the noisy labels fitted) leaves the verdict to test accuracy.
    """
    part, _, own = str(definition["score"]).partition("_")
    if part != "validation":
        return ACCURACY
    return Metric(f"test_{own}", definition["direction"], share=own == "accuracy")
