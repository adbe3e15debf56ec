"""Measure: what an axis shows, and how its numbers are written on a figure."""

from typing import Literal, NamedTuple


class Measure(NamedTuple):
    """A metric or a score as figures show it.

    Attributes:
        label: in words, such as "test accuracy". share: whether it is a fraction, shown in percent.
        direction: which sign of a difference is the better one.
    """

    label: str
    share: bool
    direction: Literal["maximize", "minimize"] = "maximize"

    @property
    def hover(self) -> str:
        """plotly's format of a value, as it stands behind the name of a variable."""
        return ":.2%" if self.share else ":.4g"

    @property
    def ticks(self) -> dict[str, str]:
        """The part of a plotly axis that formats its ticks."""
        return {"tickformat": ".1~%"} if self.share else {}

    @property
    def scale(self) -> float:
        """What differences are multiplied by: 100 makes points of fractions."""
        return 100.0 if self.share else 1.0

    @property
    def unit(self) -> str:
        """What stands behind a difference."""
        return " points" if self.share else ""

    def difference(self, value: float, signed: bool = True) -> str:
        """A difference that has been scaled, without its unit: +0.19."""
        plain = f"{value:{'+' if signed else ''}{'.2f' if self.share else '.3g'}}"
        return plain.replace("-", "−") if float(plain) else plain.lstrip("+-")
