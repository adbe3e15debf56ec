"""Numbers as the published write-ups print them, and differences in the unit of a metric."""

import math
import re

from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import ALPHA, ROUNDING, Interval, Summary

NOTHING = "–"


def number(value: float | None) -> str:
    """Three digits, as 1.30e-3 below 0.01 and from 10,000 on."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value != 0 and not 0.01 <= abs(value) < 10_000:
        mantissa, exponent = f"{value:.2e}".split("e")
        return _minus(f"{mantissa}e{int(exponent)}")
    return _minus(f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}")


def three_digits(value: float | None) -> str:
    """`number` with its trailing zeros: 1.50, 0.0170."""
    if value is None or not 0.01 <= abs(value) < 999.5:
        return number(value)
    return _minus(f"{value:#.3g}".rstrip("."))


def bound(value: float) -> str:
    """A bound or fixed value of a search space, in full: 1e-4, 0.9, 10."""
    if value == 0 or 0.01 <= abs(value) < 10_000:
        return _minus(f"{value:g}")
    mantissa, exponent = f"{value:.5e}".split("e")
    return _minus(f"{float(mantissa):g}e{int(exponent)}")


def duration(seconds: float) -> str:
    """Seconds as 12 s, 3.4 min or 2.1 h."""
    if seconds < 99.5:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 99.5 * 60 else f"{seconds / 3600:,.1f} h"


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as 47.82%."""
    return NOTHING if value is None or not math.isfinite(value) else _minus(f"{100 * value:.{digits}f}%")


def probability(value: float) -> str:
    """A p-value with its relation: = 0.86, or < 0.001."""
    if not math.isfinite(value):
        return f"= {NOTHING}"
    digits = f"{value:.2g}" if value < 0.095 else f"{value:.2f}"
    if value < ALPHA <= float(digits):
        digits = f"{math.floor(10_000 * value) / 10_000:.4f}"  # 0.0496: a verdict rests on a p below 0.05
    return "< 0.001" if value < 0.001 else f"= {digits}"


def p_cell(value: float) -> str:
    """A p-value for a table cell: 0.86, <0.001."""
    return probability(value).replace("= ", "").replace("< ", "<")


def metric_value(value: float | None, metric: Metric) -> str:
    """47.82%, or 1.53."""
    return percent(value) if metric.share else three_digits(value)


def spread(summary: Summary, metric: Metric) -> str:
    """Mean ± SD: 47.82% ± 1.73%, or 0.168 ± 0.012, both to the first decimal place where both have digits."""
    if metric.share:
        return percent(summary.mean) + (f" ± {percent(summary.sd)}" if summary.n > 1 else "")
    if summary.n < 2:
        return number(summary.mean)
    if not 0.01 <= abs(summary.mean) < 1000:
        return f"{number(summary.mean)} ± {number(summary.sd)}"
    digits = max(0, 2 - math.floor(math.log10(abs(summary.mean))))
    if summary.sd > ROUNDING * abs(summary.mean):
        digits = max(digits, -math.floor(math.log10(summary.sd)))
    return _minus(f"{summary.mean:.{digits}f} ± {summary.sd:.{digits}f}")


def difference(value: float, metric: Metric, signed: bool = True) -> str:
    """A difference without its unit: +0.19 (of fractions, in percentage points), or the number."""
    if not math.isfinite(value):
        return NOTHING
    if metric.share:
        return _minus(f"{100 * value:{'+' if signed else ''}.2f}")
    digits = three_digits(value)
    return f"+{digits}" if signed and value > 0 and digits.strip("0.") else digits


def amount(value: float, metric: Metric, signed: bool = True) -> str:
    """A difference with its unit: +0.19 points, or the number."""
    return difference(value, metric, signed) + (" points" if metric.share else "")


def detectable(value: float, metric: Metric) -> str:
    """A smallest detectable difference with its unit; fractions cannot differ by more than 100 points."""
    return "over 100 points" if metric.share and value > 1 else amount(value, metric, signed=False)


def interval(interval: Interval, metric: Metric) -> str:
    """An interval of values: [46.20%, 49.44%]; that of a fraction ends at 0% and 100%."""
    ends = (interval.low, interval.high)
    low, high = (min(max(end, 0.0), 1.0) for end in ends) if metric.share and all(map(math.isfinite, ends)) else ends
    return _brackets(metric_value(low, metric), metric_value(high, metric))


def difference_interval(interval: Interval, metric: Metric) -> str:
    """An interval of differences, without its unit: [−2.20, 2.58]."""
    return _brackets(difference(interval.low, metric, False), difference(interval.high, metric, False))


def with_interval(mean: float, interval: Interval, metric: Metric) -> str:
    """A difference and its interval, if there is one, without their unit: +0.19 [−2.20, 2.58]."""
    return f"{difference(mean, metric)} {difference_interval(interval, metric)}".removesuffix(f" {NOTHING}")


def margin(margin: float, metric: Metric) -> str:
    """A margin with its unit: 1 point, 0.5 points, or the number."""
    return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}" if metric.share else bound(margin)


def _brackets(low: str, high: str) -> str:
    return NOTHING if low == NOTHING else f"[{low}, {high}]"


def _minus(text: str) -> str:
    """Puts a true minus sign in front of the number, none in front of zero; exponents keep their hyphen."""
    if not re.search("[1-9]", text):
        return text.lstrip("+-")
    return "−" + text[1:] if text.startswith("-") else text
