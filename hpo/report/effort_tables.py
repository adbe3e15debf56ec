"""Tables of what the configurations need, and of the diagnostics at the final weights of their reruns."""

import math

from hpo.analysis.metric import Metric, score_of
from hpo.analysis.paired_tests import summarise
from hpo.analysis.results import StudyNumbers
from hpo.diagnostics import QUANTITIES
from hpo.errors import plural
from hpo.report.formatting import NOTHING, spread, with_interval
from hpo.report.tables import Table
from hpo.report.wording import better, escape


def effort(numbers: StudyNumbers) -> Table:
    """T11: sensitivity to the learning rate, and the score at equal compute."""
    score = score_of(numbers.definition)
    header = [
        "configuration", "learning rates within the margin, as a factor", "trials within it", "epoch of equal compute",
        f"{escape(score.label)} there",
    ]  # fmt: skip
    rows = []
    for entry in numbers.configurations:
        each = numbers.effort[entry.name]
        rated = math.isfinite(each.rate_factor)
        rows.append(
            [
                escape(entry.name), f"{each.rate_factor:.3g}" if rated else NOTHING,
                f"{each.trials_within} of {each.trials}" if rated else NOTHING,
                str(each.epoch) if each.epoch else NOTHING, spread(each.score, score) if each.score.n else NOTHING,
            ]
        )  # fmt: skip
    return Table(header, rows if any({*row[1:]} != {NOTHING} for row in rows) else [], range(1, 5))


def best_scores(numbers: StudyNumbers) -> Table:
    """T12: the best score after so many trials."""
    score = score_of(numbers.definition)
    counts = sorted({count for each in numbers.effort.values() for count in each.best_after})
    rows = []
    for entry in numbers.configurations:
        if entry.name not in numbers.tuned:
            continue
        after = numbers.effort[entry.name].best_after
        cells = [spread(after[count], score) if count in after and after[count].n else NOTHING for count in counts]
        rows.append([escape(entry.name), *cells])
    words = [f"after {plural(count, 'trial')}" for count in counts]
    if not words:
        return Table(["configuration"], [])
    words[0] = f"{escape(score.label)} ({better(score.direction)}) {words[0]}"
    header = ["configuration", *words]
    return Table(header, rows if any({*row[1:]} != {NOTHING} for row in rows) else [], range(1, len(header)))


def diagnostics(numbers: StudyNumbers) -> Table:
    """T10: every quantity by configuration, and its paired difference from the baseline."""
    rivals = {rival.name: rival for rival in numbers.rivals}
    rows = []
    for key, quantity in QUANTITIES.items():
        if not any(key in entry.reruns.diagnostics for entry in numbers.configurations):
            continue
        metric = Metric(key, "minimize", quantity.share)
        for entry in numbers.configurations:
            summary = summarise(list(entry.reruns.diagnostics.get(key, {}).values()))
            paired = rivals[entry.name].diagnostics.get(key) if entry.name in rivals else None
            delta = with_interval(paired.mean, paired.interval, metric) if paired and paired.n > 1 else NOTHING
            mean = spread(summary, metric) if summary.n else NOTHING
            rows.append([quantity.words, escape(entry.name), str(summary.n), mean, delta])
    header = ["quantity", "configuration", "n", "mean ± SD", f"Δ to {escape(numbers.baseline.name)} [95% CI]"]
    return Table(header, rows, range(2, 5))


TABLES = (effort, best_scores, diagnostics)
