"""Tables: headers and rows of text, the same for Markdown and HTML; cells are escaped Markdown."""

import math
from typing import Any, NamedTuple

from hpo.analysis.metric import ACCURACY, Metric
from hpo.analysis.paired_tests import summarise
from hpo.analysis.results import ConfigurationNumbers, StudyNumbers
from hpo.analysis.verdicts import MIN_PAIRS
from hpo.errors import plural
from hpo.report import formatting
from hpo.report.formatting import NOTHING, escape
from hpo.search_space import split_space
from hpo.trials import CAUSES, count_by_cause

ONE_A_RUN = "one a tuning run"


class Table(NamedTuple):
    """A table: the header, and rows as long as it. `numeric` columns (by place) are aligned right."""

    header: list[str]
    rows: list[list[str]]
    numeric: range = range(0)


def spaces(numbers: StudyNumbers) -> Table:
    """Configurations by hyperparameters: ranges, and fixed values.

    What most configurations have gets a column, what is left of each stands in one; `fixed_alike` is left out.
    """
    entries = numbers.definition["configurations"]
    cells = [_space_cells(entry["space"]) for entry in entries]
    alike = fixed_alike(numbers)
    names = [name for name in dict.fromkeys(name for own in cells for name in own) if name not in alike]
    columns = [name for name in names if 2 * sum(name in own for own in cells) > len(cells)]
    others = [name for name in names if name not in columns]
    rows = []
    for entry, own in zip(entries, cells, strict=True):
        parts = [escape(formatting.describe(entry[part])) for part in ("optimizer", "regularizer")]
        rest = "; ".join(f"{escape(_long(name))} {own[name]}" for name in others if name in own)
        shared = [own.get(name, NOTHING) for name in columns]
        rows.append([escape(entry["name"]), *parts, *shared, *([rest or NOTHING] if others else [])])
    header = ["configuration", "optimizer", "regularizer", *(escape(_long(name)) for name in columns)]
    return Table([*header, *(["further"] if others else [])], rows)


def fixed_alike(numbers: StudyNumbers) -> dict[str, float]:
    """The hyperparameters that every configuration has at one and the same fixed value."""
    first, *others = (split_space(entry["space"])[1] for entry in numbers.definition["configurations"])
    return {name: value for name, value in first.items() if all(own.get(name) == value for own in others)}


def _space_cells(space: dict[str, Any]) -> dict[str, str]:
    ranges, fixed = split_space(space)
    cells = {}
    for name in space:
        if name in ranges:
            low, high = formatting.bound(ranges[name].low), formatting.bound(ranges[name].high)
            cells[name] = f"{low} to {high}{', log' if ranges[name].log else ''}"
        else:
            cells[name] = f"{formatting.bound(fixed[name])}, fixed"
    return cells


def results(numbers: StudyNumbers) -> Table:
    """T1: what every configuration reached over its reruns."""
    metric = numbers.metric
    accuracy = [] if metric.name == ACCURACY.name else [ACCURACY.label]
    header = [
        "configuration", "n", f"{escape(metric.label)} [95% CI]", *accuracy, "final training loss",
        "generalisation gap", "noisy labels fitted", "diverged", "seconds per epoch", "best setting",
    ]  # fmt: skip
    return Table(header, [_result(entry, metric) for entry in numbers.configurations], range(1, len(header) - 1))


def _result(entry: ConfigurationNumbers, metric: Metric) -> list[str]:
    reruns = entry.reruns
    judged = reruns.metric_summary
    limits = f" {formatting.interval(judged.interval, metric)}" if math.isfinite(judged.interval.low) else ""
    accuracy = [] if metric.name == ACCURACY.name else [formatting.spread(reruns.accuracy, ACCURACY)]
    gap = reruns.generalisation_gap
    settings = reruns.settings or [best.setting for best in entry.tuning.best]
    return [
        escape(entry.name),
        str(judged.n),
        formatting.spread(judged, metric) + limits,
        *accuracy,
        formatting.number_spread(reruns.train_loss),
        formatting.points(gap.mean),
        formatting.percent_spread(reruns.memorised),
        str(len(reruns.diverged_seeds)),
        formatting.three_digits(reruns.seconds_per_epoch.mean),
        escape(_best(entry, _settings(settings) if len(settings) < 2 else ONE_A_RUN)),
    ]


def _best(entry: ConfigurationNumbers, shown: str) -> str:
    """The settings that tuning chose, as `shown`; where no trial has a score it chose none, though one was rerun."""
    trials = entry.tuning
    if trials.finished and trials.diverged + trials.without_score == trials.finished:
        why = "no trial has a finite score" if trials.without_score else "every trial diverged"
        return f"none: {why}" + (f" (rerun with {shown})" if shown else "")
    return shown or NOTHING


def _settings(settings: list[dict[str, float]]) -> str:
    return "; ".join(map(formatting.setting, settings))


def comparisons(numbers: StudyNumbers) -> Table:
    """T2: every rival against the baseline, in percentage points where the metric is a share."""
    metric = numbers.metric
    unit = " in points" if metric.share else ""
    header = [
        "against " + escape(numbers.baseline.name), "n", f"Δ{unit} [95% CI]", _won(numbers), "p (t)",
        "p (sign flip)", "p (Holm)", "g", f"MDE{unit}", "verdict",
    ]  # fmt: skip
    rows = []
    for rival in numbers.rivals:
        paired = rival.verdict.comparison
        ties = f", {paired.tied} tied" if paired.tied else ""
        rows.append(
            [
                escape(rival.name),
                str(paired.n),
                formatting.with_interval(paired.mean, paired.interval, metric) if paired.n else NOTHING,
                f"{paired.won} of {paired.n}{ties}" if paired.n else NOTHING,
                formatting.p_cell(paired.p_t),
                formatting.p_cell(paired.p_flip),
                formatting.p_cell(rival.verdict.p_holm),
                formatting.three_digits(paired.g) if paired.n >= MIN_PAIRS else NOTHING,
                formatting.detectable(paired.mde, metric).removesuffix(" points"),
                formatting.verdict_words(rival.verdict, metric),
            ]
        )
    return Table(header, rows, range(1, 9))


def pairs(numbers: StudyNumbers) -> Table:
    """T3: the rivals against one another, without verdicts."""
    metric = numbers.metric
    rows = []
    for pair in (pair for pair in numbers.pairs if pair.n):
        told = pair.diverged and metric.share  # else a diverged rerun has no value and left its pair
        counted = f", {plural(pair.diverged, 'diverged rerun')} counted" if told else ""
        difference = formatting.with_interval(pair.mean, pair.interval, metric) + counted
        won = NOTHING if pair.reason else f"{pair.won} of {pair.n}"
        rows.append([escape(pair.name), escape(pair.other), str(pair.n), escape(pair.reason) or difference, won])
    header = ["configuration", "against", "n", f"Δ{' in points' * metric.share} [95% CI]", _won(numbers)]
    return Table(header, rows, range(2, 5))


def _won(numbers: StudyNumbers) -> str:
    return "seeds won" if numbers.study["tuning_runs"] == 1 else "tuning runs won"


def seeds(numbers: StudyNumbers) -> Table:
    """T4: the verdict's metric of every seed and configuration; with several tuning runs, sorted by them."""
    entries, several = numbers.configurations, numbers.study["tuning_runs"] > 1
    tuning_run_of = {
        seed: tuning_run for entry in entries for seed, tuning_run in entry.reruns.tuning_run_by_seed.items()
    }
    every = {seed for entry in entries for seed in (*entry.reruns.metric_values, *entry.reruns.failed_seeds)}
    rows = []
    for seed in sorted(every, key=lambda seed: (tuning_run_of[seed], seed)):
        unit = [str(tuning_run_of[seed] + 1)] if several else []
        rows.append([*unit, str(seed), *(_seed_cell(entry, seed, numbers.metric) for entry in entries)])
    header = [*(["tuning run"] if several else []), "seed", *(escape(entry.name) for entry in entries)]
    return Table(header, rows, range(len(header) - len(entries), len(header)))


def custom_metrics(numbers: StudyNumbers) -> Table:
    """T5: the study's own metrics on the test set but the verdict's, and their differences from the baseline."""
    rivals = {rival.name: rival for rival in numbers.rivals}
    rows = []
    others = [name for name in numbers.definition.get("metrics", ()) if f"test_{name}" != numbers.metric.name]
    for metric in others:
        for entry in numbers.configurations:
            found = summarise(list(entry.reruns.custom_metrics[metric].values()))
            paired = rivals[entry.name].custom_metrics[metric] if entry.name in rivals else None
            difference = NOTHING
            if paired and paired.n > 1:
                low, high = (formatting.number(end) for end in (paired.interval.low, paired.interval.high))
                difference = f"{formatting.number(paired.mean)} [{low}, {high}]"
            name = escape(metric.replace("_", " "))
            rows.append([name, escape(entry.name), str(found.n), formatting.number_spread(found), difference])
    header = ["metric", "configuration", "n", "test set", f"Δ to {escape(numbers.baseline.name)} [95% CI]"]
    return Table(header, rows, range(2, 5))


def _seed_cell(entry: ConfigurationNumbers, seed: int, metric: Metric) -> str:
    if seed in entry.reruns.failed_seeds:
        return "failed"
    if seed in entry.reruns.undefined_seeds:
        return "not finite"
    value = formatting.metric_value(entry.reruns.metric_values.get(seed), metric)
    return f"{value} (diverged)" if seed in entry.reruns.diverged_seeds else value


def tuning(numbers: StudyNumbers) -> Table:
    """What the trials of every configuration came to; how many were pruned stands there where the study prunes."""
    pruning = "pruner" in numbers.definition
    unscored = any(entry.tuning.without_score for entry in numbers.configurations)
    header = [
        "configuration",
        "finished",
        "diverged",
        *(["pruned"] if pruning else []),
        *(["without a finite score"] if unscored else []),
        "failed for good",
        "best score",
        "best setting",
        "place in the range",
    ]
    rows = []
    for entry in numbers.configurations:
        trials = entry.tuning
        places = [f"{formatting.symbol(name)} {place.position:.2f}" for name, place in trials.range_positions.items()]
        rows.append(
            [
                escape(entry.name),
                f"{trials.finished} of {trials.planned}",
                str(trials.diverged),
                *([str(trials.pruned)] if pruning else []),
                *([str(trials.without_score)] if unscored else []),
                str(trials.failed),
                "; ".join(_score(numbers.definition, best.score) for best in trials.best) or NOTHING,
                escape(_best(entry, _settings([best.setting for best in trials.best]))),
                escape(", ".join(places) or NOTHING),
            ]
        )
    return Table(header, rows, range(1, len(header) - 2))


def environments(numbers: StudyNumbers) -> Table:
    """The distinct devices and versions that the runs were made with."""
    keys = list(dict.fromkeys(key for entry in numbers.environments for key in entry))
    rows = [[escape(str(entry.get(key) or NOTHING)) for key in keys] for entry in numbers.environments]
    return Table([escape(key) for key in keys], rows)


def _score(definition: dict[str, Any], value: float) -> str:
    return formatting.percent(value) if definition["score"] == "validation_accuracy" else formatting.three_digits(value)


def _long(name: str) -> str:
    short = formatting.symbol(name)
    return formatting.plain_name(name) if short.isascii() else short


def failures(numbers: StudyNumbers) -> Table:
    """T6: runs that diverged, attempts that failed by cause, runs that failed for good; a row where there are any."""
    counted = []
    for entry in numbers.configurations:
        tuning, reruns = entry.tuning, entry.reruns
        phases = (
            ("trials", tuning.diverged, tuning.failed_attempts, tuning.failed),
            ("reruns", len(reruns.diverged_seeds), reruns.failed_attempts, len(reruns.failed_seeds)),
        )
        counted += [(entry.name, phase, count_by_cause(own, attempts), lost) for phase, own, attempts, lost in phases]
    known = dict.fromkeys([*CAUSES, *(cause for _, _, causes, _ in counted for cause in causes)])
    rows = [
        [escape(name), phase, *(str(causes.get(cause, 0)) for cause in known), str(lost)]
        for name, phase, causes, lost in counted
        if causes or lost
    ]
    header = ["configuration", "runs", *map(escape, known), "failed for good"]
    return Table(header, rows, range(2, len(header)))
