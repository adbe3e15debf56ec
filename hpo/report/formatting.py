"""Wording: numbers as the published write-ups print them, and the words of a verdict."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import Interval, Summary
from hpo.analysis.verdicts import Verdict

NOTHING = "–"
SHARES = {"label_noise", "validation"}  # fields of a data set that are fractions of it
SYMBOLS = {
    "learning_rate": "LR",
    "weight_decay": "WD",
    "lambda": "λ",
    "gamma": "γ",
    "rho": "ρ",
    "rho_prime": "ρ′",
    "theta": "θ",
    "alpha": "α",
    "beta": "β",
}
MARKDOWN = re.compile(r"([\\`*\[\]<>&|~$#])|(?<![^\W_])(_)|(_)(?![^\W_])")
ITEM = re.compile(r"^(\d{1,9}(?=[.)])|)([.)+-])(?= |$)")  # what would begin a list where it stands first


def escape(text: str) -> str:
    """Any text as one line of Markdown that shows it literally, in a table cell too."""
    shown = MARKDOWN.sub(lambda match: "\\" + match[0], " ".join(str(text).split()))
    return ITEM.sub(r"\1\\\2", shown)


def symbol(name: str) -> str:
    """A hyperparameter's short name: LR, WD, a Greek letter, or its own name."""
    return SYMBOLS.get(name.rstrip("_"), plain_name(name))


def plain_name(name: str) -> str:
    """A hyperparameter's name in words: learning rate, lambda."""
    return name.rstrip("_").replace("_", " ")


def legend(names: Iterable[str]) -> str:
    """What the short names among `names` stand for: "LR: learning rate; λ: lambda"; nothing where none is short."""
    return "; ".join(f"{symbol(name)}: {plain_name(name)}" for name in names if symbol(name) != plain_name(name))


def number(value: float | None) -> str:
    """1.30e-3 below 0.01 and from 10,000 on, else three digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value != 0 and not 0.01 <= abs(value) < 10_000:
        mantissa, exponent = f"{value:.2e}".split("e")
        return _minus(f"{mantissa}e{int(exponent)}")
    return _minus(f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}")


def three_digits(value: float | None) -> str:
    """`number` with its trailing zeros: 1.50, 0.0170."""
    if value is None or not 0.01 <= abs(value) < 1000:
        return number(value)
    return _minus(f"{value:#.3g}".rstrip("."))


def bound(value: float) -> str:
    """A bound or fixed value of a search space, in full: 1e-4, 0.9, 10."""
    if value == 0 or 0.01 <= abs(value) < 10_000:
        return _minus(f"{value:g}")
    mantissa, exponent = f"{value:.5e}".split("e")
    return _minus(f"{float(mantissa):g}e{int(exponent)}")


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as 47.82%."""
    return NOTHING if value is None or not math.isfinite(value) else _minus(f"{100 * value:.{digits}f}%")


def points(value: float, signed: bool = True) -> str:
    """A difference of fractions in percentage points: +0.19."""
    if not math.isfinite(value):
        return NOTHING
    return _minus(f"{100 * value:{'+' if signed else ''}.2f}")


def point_interval(interval: Interval) -> str:
    """An interval of differences in percentage points: [−2.20, 2.58]."""
    if not math.isfinite(interval.low):
        return NOTHING
    return f"[{points(interval.low, False)}, {points(interval.high, False)}]"


def number_interval(interval: Interval) -> str:
    """An interval of plain numbers: [−0.012, 0.034]."""
    return f"[{three_digits(interval.low)}, {three_digits(interval.high)}]" if math.isfinite(interval.low) else NOTHING


def probability(value: float) -> str:
    """A p-value with its relation: = 0.86, or < 0.001."""
    if not math.isfinite(value):
        return f"= {NOTHING}"
    return "< 0.001" if value < 0.001 else f"= {value:.2g}" if value < 0.095 else f"= {value:.2f}"


def p_cell(value: float) -> str:
    """A p-value for a table cell: 0.86, <0.001."""
    return probability(value).replace("= ", "").replace("< ", "<")


def percent_spread(summary: Summary) -> str:
    """47.82% ± 1.73%."""
    if not summary.n:
        return NOTHING
    return percent(summary.mean) + (f" ± {percent(summary.sd)}" if summary.n > 1 else "")


def number_spread(summary: Summary) -> str:
    """0.168 ± 0.012, the SD to as many digits as the mean."""
    if summary.n < 2:
        return number(summary.mean)
    if not 0.01 <= abs(summary.mean) < 1000:
        return f"{number(summary.mean)} ± {number(summary.sd)}"
    digits = max(0, 2 - math.floor(math.log10(abs(summary.mean))))
    return _minus(f"{summary.mean:.{digits}f} ± {summary.sd:.{digits}f}")


def setting(values: Mapping[str, float]) -> str:
    """LR 1.30e-3, WD 6.53e-5, λ 0.026."""
    return ", ".join(f"{symbol(name)} {number(value)}" for name, value in values.items()) or NOTHING


def margin_points(margin: float) -> str:
    """The margin in words: 1 point, 0.5 points."""
    return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"


def metric_value(value: float | None, metric: Metric) -> str:
    """47.82%, or 1.53."""
    return percent(value) if metric.share else three_digits(value)


def spread(summary: Summary, metric: Metric) -> str:
    """47.82% ± 1.73%, or 1.53 ± 0.08."""
    return percent_spread(summary) if metric.share else number_spread(summary)


def difference(value: float, metric: Metric, signed: bool = True) -> str:
    """A difference without its unit: +0.19 for points, else the number."""
    if metric.share:
        return points(value, signed)
    shown = three_digits(value)
    return f"+{shown}" if signed and value > 0 and shown.strip("0.") else shown


def amount(value: float, metric: Metric, signed: bool = True) -> str:
    """A difference with its unit: +0.19 points, or the number alone."""
    return difference(value, metric, signed) + (" points" if metric.share else "")


def detectable(value: float, metric: Metric) -> str:
    """A smallest detectable difference with its unit; shares cannot differ by more than 100 points."""
    return "over 100 points" if metric.share and value > 1 else amount(value, metric, signed=False)


def interval(interval: Interval, metric: Metric) -> str:
    """An interval of values: [46.20%, 49.44%]."""
    return _pair(metric_value(interval.low, metric), metric_value(interval.high, metric))


def difference_interval(interval: Interval, metric: Metric) -> str:
    """An interval of differences, without its unit: [−2.20, 2.58]."""
    return _pair(difference(interval.low, metric, False), difference(interval.high, metric, False))


def with_interval(mean: float, interval: Interval, metric: Metric) -> str:
    """A difference and its interval, without their unit: +0.19 [−2.20, 2.58]."""
    return f"{difference(mean, metric)} {difference_interval(interval, metric)}"


def margin(margin: float, metric: Metric) -> str:
    """The margin in words: 1 point, 0.5 points, or the number alone."""
    return margin_points(margin) if metric.share else bound(margin)


def listed(names: Sequence[str]) -> str:
    """A, B and C."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def span(values: Sequence[int]) -> str:
    """Sorted whole numbers as a range where they follow one another: 1000 to 1009."""
    if len(values) > 2 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values))


def verdict_words(verdict: Verdict, metric: Metric) -> str:
    """What the rule says, with the number it rests on in units of `metric`; bold where rule 3 allows it."""
    if verdict.rule == 1:
        return f"no verdict: {escape(verdict.reason)}"
    if verdict.rule == 2:
        mean = verdict.comparison.mean
        values = f"the same difference ({difference(mean, metric)})" if mean else "identical"
        return f"{values} on every seed: check that the setting takes effect"
    if verdict.rule == 3:
        words = verdict.label
        words += f", by less than the margin of {margin(verdict.margin, metric)}" if verdict.within_margin else ""
        return f"**{words}**" if verdict.firm else words
    if verdict.rule == 4:
        return f"{verdict.label} within ±{margin(verdict.margin, metric)}"
    return f"{verdict.label} (smallest detectable: {detectable(verdict.comparison.mde, metric)})"


def describe(part: Any) -> str:
    """A part of the definition in words: its kind, then its numbers (shares as percentages)."""
    if not isinstance(part, Mapping):
        return NOTHING if part is None else _plain(part)
    rest = {key: value for key, value in part.items() if key != "kind"}
    if isinstance(rest.get("widths"), list):
        head = f"{part.get('kind', '')} {' → '.join(map(str, rest.pop('widths')))}".strip()
    else:
        head = str(part.get("kind", ""))
    words = [f"{key.replace('_', ' ')} {_field(key, value)}" for key, value in rest.items() if value is not None]
    return ", ".join([head, *words] if head else words)


def _field(key: str, value: Any) -> str:
    if key == "milestones" and isinstance(value, list):  # moments one after the other, where other lists are sizes
        return " and ".join(map(_plain, value))
    return percent(value, 0) if key in SHARES and isinstance(value, float) else describe(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return bound(value)
    if isinstance(value, list | tuple):
        return " × ".join(map(_plain, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _pair(low: str, high: str) -> str:
    return NOTHING if low == NOTHING else f"[{low}, {high}]"


def _minus(text: str) -> str:
    """A true minus sign in front of the number, none in front of zero; exponents keep their hyphen."""
    if not re.search("[1-9]", text):
        return text.lstrip("+-")
    return "−" + text[1:] if text.startswith("-") else text
