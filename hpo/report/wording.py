"""Words of a report: literal names, hyperparameters, lists, parts of a definition, and verdicts."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import Direction
from hpo.analysis.results import Rival, StudyNumbers
from hpo.analysis.verdicts import Verdict
from hpo.errors import plural
from hpo.output import visible
from hpo.report.formatting import (
    NOTHING,
    amount,
    bound,
    detectable,
    difference,
    difference_interval,
    margin,
    number,
    percent,
    probability,
)  # fmt: skip
from hpo.stages import Stages

# What joins the entries of a list; other lists are sizes.
LISTS = {
    "milestones": " and ", "corruptions": " and ", "severities": " and ", "means": " and ", "deviations": " and ",
    "scale": " to ", "ratio": " to ", "padding": " to ", "arguments": " and ",
}  # fmt: skip
FRACTIONS = {"label_noise", "validation", "test"}  # fields of a data set that are fractions of it
FIELDS = {"content": "digest of the content", "target": "target column"}  # of a data set, in words
SYMBOLS = {
    "learning_rate": "LR", "weight_decay": "WD", "lambda": "λ", "gamma": "γ", "rho": "ρ", "rho_prime": "ρ′",
    "theta": "θ", "alpha": "α", "beta": "β",
}  # fmt: skip
MARKDOWN = re.compile(r"([\\`*\[\]<>&|~$#])|(?<![^\W_])(_)|(_)(?![^\W_])")
ITEM = re.compile(r"^(\d{1,9}(?=[.)])|)([.)+-])(?= |$)")  # what would begin a list at the beginning of a line
ESCAPED = re.compile(r"\\([\\`*\[\]<>&|~$#_.)+-])")


def escape(text: str) -> str:
    """Any text as one line of Markdown that shows it literally, in a table cell too."""
    line = MARKDOWN.sub(lambda match: "\\" + match[0], visible(" ".join(str(text).split())))
    return ITEM.sub(r"\1\\\2", line)


def unescape(markdown: str) -> str:
    """The text that escaped Markdown shows."""
    return ESCAPED.sub(r"\1", markdown)


def symbol(name: str) -> str:
    """A hyperparameter's short name: LR, WD, a Greek letter, or its own name."""
    return SYMBOLS.get(name.rstrip("_"), plain_name(name))


def plain_name(name: str) -> str:
    """A hyperparameter's name in words: learning rate, lambda, model width."""
    return name.rstrip("_").replace("_", " ").replace(".", " ")


def legend(names: Iterable[str]) -> str:
    """What the short names among `names` stand for: "LR: learning rate; λ: lambda"; empty where none is short."""
    return "; ".join(f"{symbol(name)}: {plain_name(name)}" for name in names if symbol(name) != plain_name(name))


def setting(values: Mapping[str, Any]) -> str:
    """LR 1.30e-3, WD 6.53e-5, λ 0.026, batch size 64, nesterov yes."""
    return ", ".join(
        f"{symbol(name)} {number(value) if isinstance(value, float) else value_words(value)}"
        for name, value in values.items()
    ) or NOTHING  # fmt: skip


def value_words(value: Any) -> str:
    """A hyperparameter's value in full: 1e-4, 64, yes, none, or a text itself."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    return "none" if value is None else bound(value) if isinstance(value, float) else str(value)


def better(direction: Direction) -> str:
    """Which values are better."""
    return "higher is better" if direction == "maximize" else "lower is better"


def listed(names: Sequence[str]) -> str:
    """A, B and C; with semicolons where a name has a comma itself: A, a; B; and C."""
    if len(names) == 1:
        return names[0]
    if any(", " in name for name in names):
        return f"{'; '.join(names[:-1])}; and {names[-1]}"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def span(values: Sequence[int]) -> str:
    """Sorted whole numbers, as a range where they are consecutive: 1000 to 1009."""
    if len(values) > 2 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values))


def verdict_words(verdict: Verdict, metric: Metric) -> str:
    """The verdict with the number it rests on, in units of `metric`; bold where rule 3 allows it."""
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


def short_verdicts(numbers: StudyNumbers) -> list[str]:
    """Plain text for each planned comparison that has a verdict: "GNVR: better, Δ = +1.10 points"."""
    texts = []
    for rival in numbers.comparisons:
        verdict, against = rival.verdict, f" against {rival.against}" if rival.against != numbers.baseline.name else ""
        if verdict.rule > 1:
            label = verdict.label if verdict.rule > 2 else unescape(verdict_words(verdict, numbers.metric))
            texts.append(f"{rival.name}{against}: {label}, Δ = {amount(verdict.comparison.mean, numbers.metric)}")
    return texts


def verdict_lines(numbers: StudyNumbers) -> list[str]:
    """A line of Markdown for each planned comparison: its verdict and the numbers that it rests on."""
    return [_verdict_line(rival, numbers) for rival in numbers.comparisons]


def _verdict_line(rival: Rival, numbers: StudyNumbers) -> str:
    verdict, metric = rival.verdict, numbers.metric
    paired = verdict.comparison
    parts = [f"{escape(rival.name)} against {escape(rival.against)}: {verdict_words(verdict, metric)}"]
    if paired.n:
        has_interval = paired.n > 1 and not paired.identical
        interval = f", 95% CI {difference_interval(paired.interval, metric)}" if has_interval else ""
        scope = " (this comparison only)" if has_interval and paired.family > 1 else ""
        parts.append(f"Δ = {amount(paired.mean, metric)}{interval}{scope}")
    if paired.n > 2:
        parts.append(plural(paired.n, f"paired {numbers.unit}"))
    if verdict.rule > 2:
        parts.append(f"p {probability(verdict.p_holm)} (Holm, m = {paired.family})")
    if paired.n and verdict.diverged and metric.share:
        parts.append(f"{plural(verdict.diverged, 'diverged rerun')} counted")
    return "; ".join(parts) + "."


def outcome_words(rival: Rival, metric: Metric) -> str:
    """What became of the prediction of a comparison, and why where it is undecided."""
    verdict, start = rival.verdict, f"The prediction ({rival.prediction})"
    if rival.outcome != "undecided":
        return f"{start} {rival.outcome}."
    if verdict.found and verdict.tentative:
        return f"{start} is undecided, since a tentative verdict decides no prediction."
    interval = verdict.comparison.equivalence_interval
    if rival.prediction != "equivalent" or not math.isfinite(interval.high - interval.low):
        return f"{start} is undecided."
    shown = difference_interval(interval, metric)
    if verdict.rule == 3:
        why = f"does not exclude differences of less than {margin(verdict.margin, metric)}"
    elif interval.high - interval.low > 2 * verdict.margin:
        why = "is wider than twice the margin, so that no mean difference could have shown equivalence"
    else:
        why = f"does not lie within ±{margin(verdict.margin, metric)}"
    return f"{start} is undecided: the {equivalence_level(verdict)} interval {shown} {why}."


def equivalence_level(verdict: Verdict) -> str:
    """The confidence level of the interval that decides equivalence: 95%."""
    return f"{100 * (1 - 2 * verdict.alpha / verdict.comparison.family):.3g}%"


def describe(part: Any) -> str:
    """A part of the definition in words: its kind, then its numbers (fractions as percentages)."""
    if not isinstance(part, Mapping):
        return NOTHING if part is None else _value(part)
    fields = {key: value for key, value in part.items() if key != "kind" and value not in (None, [])}
    head = str(part.get("kind", ""))
    if head == "Stages":
        return str(Stages(fields["stages"]))
    if isinstance(fields.get("widths"), list):
        head = f"{head} {' → '.join(map(str, fields.pop('widths')))}".strip()
    words = [f"{FIELDS.get(key) or key.replace('_', ' ')} {_field(key, value)}" for key, value in fields.items()]
    return ", ".join([head, *words] if head else words)


def configuration_options(entry: Mapping[str, Any]) -> list[str]:
    """A configuration's parameter groups, average and schedules in words."""
    words = [f"no weight decay on {' and '.join(entry['no_decay'])}"] if "no_decay" in entry else []
    for pattern, changes in entry.get("groups", {}).items():
        changed = [
            f"{plain_name(name)} {bound(change['fixed'])}"
            if isinstance(change, Mapping)
            else f"{plain_name(name)} × {bound(change)}"
            for name, change in changes.items()
        ]
        words.append(f"{pattern}: {', '.join(changed)}")
    words += [f"evaluated at its {entry['average']} weights"] if "average" in entry else []
    for name, schedule in entry.get("schedules", {}).items():
        followed = "that of the learning rate" if isinstance(schedule, str) else describe(schedule)
        words.append(f"schedule of {plain_name(name)}: {followed}")
    return words


def _field(key: str, value: Any) -> str:
    if key in LISTS and isinstance(value, list):
        return LISTS[key].join(map(_value, value))
    return percent(value, 0) if key in FRACTIONS and isinstance(value, float) else describe(value)


def _value(value: Any) -> str:
    return " × ".join(map(_value, value)) if isinstance(value, list | tuple) else value_words(value)
