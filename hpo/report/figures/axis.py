"""How a metric is written on the axes and marks of a figure."""

from hpo.analysis.metric import Metric


def hover(metric: Metric) -> str:
    """plotly's format of a value, as it stands behind the name of a variable."""
    return ":.2%" if metric.share else ":.4g"


def ticks(metric: Metric) -> dict[str, str]:
    """The part of a plotly axis that formats its ticks."""
    return {"tickformat": ".1~%"} if metric.share else {}


def scale(metric: Metric) -> float:
    """What differences are multiplied by: 100 makes points of fractions."""
    return 100.0 if metric.share else 1.0


def unit(metric: Metric) -> str:
    """What stands behind a difference."""
    return " points" if metric.share else ""


def difference(value: float, metric: Metric, signed: bool = True) -> str:
    """A difference that has been scaled, without its unit: +0.19."""
    plain = f"{value:{'+' if signed else ''}{'.2f' if metric.share else '.3g'}}"
    return plain.replace("-", "−") if float(plain) else plain.lstrip("+-")
