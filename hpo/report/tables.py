"""Tables T1 to T5, the results; cells are escaped Markdown, the same for README.md and report.html."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from hpo.analysis.metric import NOISY_LABELS, TRAIN_LOSS, Metric, further_metrics, gap_metric, shown_metrics
from hpo.analysis.paired_tests import Comparison, summarise
from hpo.analysis.results import ConfigurationNumbers, Pair, StudyNumbers
from hpo.analysis.verdicts import MIN_PAIRS
from hpo.errors import plural
from hpo.report.formatting import (
    NOTHING,
    detectable,
    difference,
    interval,
    metric_value,
    p_cell,
    spread,
    three_digits,
    with_interval,
)  # fmt: skip
from hpo.report.setting_words import trained_setting
from hpo.report.two_groups import with_groups
from hpo.report.wording import escape, setting, verdict_words
from hpo.tasks import metric_words

UNDETECTED = 5  # the rule of "no detectable difference"
BETTER = {"maximize": "higher", "minimize": "lower", None: "not stated"}


class Table(NamedTuple):
    """A table: the header, and rows of the same length. Columns with an index in `numeric` are aligned right."""

    header: list[str]
    rows: list[list[str]]
    numeric: range = range(0)


def results(numbers: StudyNumbers) -> Table:
    """T1: the results of every configuration over its reruns."""
    metric, further = numbers.metric, _shown_metrics(numbers)
    fits = ["noisy labels fitted"] if any(entry.reruns.memorised.n for entry in numbers.configurations) else []
    seconds = [] if numbers.step_times else ["seconds per epoch"]  # T9 compares the cost better
    header = [
        "configuration", "n", f"{escape(metric.label)} [95% CI]", *(escape(other.label) for other in further),
        "final training loss", "generalisation gap", *fits, "diverged", *seconds, "setting",
    ]  # fmt: skip
    rows = [_result(entry, numbers, further, bool(fits)) for entry in numbers.configurations]
    return Table(header, rows, range(1, len(header) - 1))


def tuned_so_far(numbers: StudyNumbers) -> Table:
    """The progress of tuning, while no rerun is finished: trials and the best one of every configuration."""
    header = ["configuration", "trials", f"best {escape(metric_words(numbers.definition['score']))}", "its setting"]
    best_of = max if numbers.definition["direction"] == "maximize" else min
    rows = []
    for entry in numbers.configurations:
        tuning, best = entry.tuning, best_of(entry.tuning.best, key=lambda trial: trial.score, default=None)
        shown = (
            [NOTHING, NOTHING] if best is None else [three_digits(best.score), escape(setting(best.setting)) or NOTHING]
        )
        rows.append([escape(entry.name), f"{tuning.finished} of {tuning.planned}", *shown])
    return Table(header, rows, range(1, 3))


def _shown_metrics(numbers: StudyNumbers) -> list[Metric]:
    """The further metrics with a column of their own."""
    further = further_metrics(numbers.definition, numbers.configurations[0].reruns.test_metrics)
    return shown_metrics(further, numbers.samples.classes)


def _result(entry: ConfigurationNumbers, numbers: StudyNumbers, further: list[Metric], fits: bool) -> list[str]:
    metric, reruns, summary = numbers.metric, entry.reruns, entry.reruns.metric_summary
    limits = f" {interval(summary.interval, metric)}" if math.isfinite(summary.interval.low) else ""
    gap = gap_metric(numbers.definition)
    averaged = {
        metric: spread(summary, metric) + limits,
        **{other: spread(summarise(list(reruns.test_metrics[other.name].values())), other) for other in further},
        TRAIN_LOSS: spread(reruns.train_loss, TRAIN_LOSS),
        gap: difference(reruns.generalisation_gap.mean, gap),
        **({NOISY_LABELS: spread(reruns.memorised, NOISY_LABELS)} if fits else {}),
    }
    return [
        escape(entry.name),
        str(summary.n),
        *(with_groups(cell, entry, quantity) for quantity, cell in averaged.items()),
        str(len(reruns.diverged_seeds)),
        *([] if numbers.step_times else [three_digits(reruns.seconds_per_epoch.mean)]),
        escape(trained_setting(entry, numbers)),
    ]


def verdicts(numbers: StudyNumbers) -> Table:
    """The verdicts, for the top of the page."""
    metric = numbers.metric
    unit = " in points" if metric.share else ""
    header = ["comparison", "verdict", f"Δ{unit} [95% CI]", "n", "p (Holm)", "prediction"]
    rows = []
    for rival in numbers.comparisons:
        paired, predicted = rival.verdict.comparison, rival.prediction or NOTHING
        rows.append(
            [
                f"{escape(rival.name)} against {escape(rival.against)}",
                verdict_words(rival.verdict, metric),
                with_interval(paired.mean, paired.interval, metric) if paired.n else NOTHING,
                str(paired.n),
                p_cell(rival.verdict.p_holm),
                f"{predicted}: {rival.outcome}" if rival.outcome else predicted,
            ]
        )
    return Table(header, rows, range(2, 5))


def comparisons(numbers: StudyNumbers) -> Table:
    """T2: the planned comparisons, in percentage points where the metric is a share."""
    metric = numbers.metric
    unit = " in points" if metric.share else ""
    first = "comparison" if numbers.planned else f"against {escape(numbers.baseline.name)}"
    header = [
        first, "n", f"Δ{unit} [95% CI]", f"{numbers.unit}s won", "p (t)",
        "p (sign flip)", "p (Holm)", "g", f"MDE{unit}", "verdict",
    ]  # fmt: skip
    rows = []
    for rival in numbers.comparisons:
        paired = rival.verdict.comparison
        rows.append(
            [
                escape(f"{rival.name} against {rival.against}" if numbers.planned else rival.name),
                str(paired.n),
                with_interval(paired.mean, paired.interval, metric) if paired.n else NOTHING,
                _won(paired) if paired.n else NOTHING,
                p_cell(paired.p_t),
                p_cell(paired.p_flip),
                p_cell(rival.verdict.p_holm),
                three_digits(paired.g) if paired.n >= MIN_PAIRS else NOTHING,
                detectable(paired.mde, metric).removesuffix(" points") if rival.verdict.rule == UNDETECTED else NOTHING,
                verdict_words(rival.verdict, metric),
            ]
        )
    return Table(header, rows, range(1, 9))


def pairs(numbers: StudyNumbers) -> Table:
    """T3: the rivals compared with each other where no comparison was planned, without verdicts."""
    metric = numbers.metric
    rows = []
    for pair in (pair for pair in numbers.pairs if pair.n):
        diverged = pair.diverged if metric.share else 0  # otherwise a diverged rerun has no value and left its pair
        counted = f", {plural(diverged, 'diverged rerun')} counted" if diverged else ""
        delta = escape(pair.reason) or with_interval(pair.mean, pair.interval, metric) + counted
        won = NOTHING if pair.reason else _won(pair)
        rows.append([escape(pair.name), escape(pair.other), str(pair.n), delta, won])
    header = ["configuration", "against", "n", f"Δ{' in points' * metric.share} [95% CI]", f"{numbers.unit}s won"]
    return Table(header, rows, range(2, 5))


def _won(paired: Comparison | Pair) -> str:
    """ "7 of 10, 1 tied"."""
    return f"{paired.won} of {paired.n}{f', {paired.tied} tied' if paired.tied else ''}"


def seeds(numbers: StudyNumbers) -> Table:
    """T4: the verdict's metric for every seed and configuration; with several tuning runs, sorted by them."""
    entries, several = numbers.configurations, numbers.study["tuning_runs"] > 1
    run_of = {seed: run for entry in entries for seed, run in entry.reruns.tuning_run_by_seed.items()}
    every = {seed for entry in entries for seed in (*entry.reruns.metric_values, *entry.reruns.failed_seeds)}
    columns = [_seed_cells(entry, every, numbers.metric) for entry in entries]
    rows = []
    for seed in sorted(every, key=lambda seed: (run_of[seed], seed)):
        tuning_run = [str(run_of[seed])] if several else []
        rows.append([*tuning_run, str(seed), *(cells[seed] for cells in columns)])
    header = [*(["tuning run"] if several else []), "seed", *(escape(entry.name) for entry in entries)]
    return Table(header, rows, range(len(header) - len(entries), len(header)))


def _seed_cells(entry: ConfigurationNumbers, seeds: Iterable[int], metric: Metric) -> dict[int, str]:
    values = entry.reruns.metric_values
    cells = {seed: metric_value(values.get(seed), metric) for seed in seeds}
    cells |= {seed: f"{cells[seed]} (diverged)" for seed in entry.reruns.diverged_seeds}
    cells |= dict.fromkeys(entry.reruns.undefined_seeds, "not finite")
    return cells | dict.fromkeys(entry.reruns.failed_seeds, "failed")


def custom_metrics(numbers: StudyNumbers) -> Table:
    """T5: custom metrics other than the verdict's on the test set, and their differences from the baseline."""
    directions = numbers.study["text"].get("directions") or {}
    rivals = {rival.name: rival for rival in numbers.rivals}
    rows = []
    for name in numbers.definition.get("metrics", ()):
        if f"test_{name}" == numbers.metric.name:
            continue
        direction = directions.get(name)
        metric = Metric(name, direction or "maximize", share=False)
        for entry in numbers.configurations:
            summary = summarise(list(entry.reruns.custom_metrics[name].values()))
            paired = rivals[entry.name].custom_metrics[name] if entry.name in rivals else None
            delta = with_interval(paired.mean, paired.interval, metric) if paired and paired.n > 1 else NOTHING
            values = [str(summary.n), spread(summary, metric), delta]
            rows.append([escape(metric.label), BETTER[direction], escape(entry.name), *values])
    header = ["metric", "better", "configuration", "n", "test set", f"Δ to {escape(numbers.baseline.name)} [95% CI]"]
    return Table(header, rows, range(3, 6))


TABLES = (verdicts, results, comparisons, pairs, seeds, custom_metrics)
