"""The table of `Study.diagnostics`: what was measured at the final weights of the reruns."""

from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import summarise
from hpo.analysis.results import StudyNumbers
from hpo.diagnostics import QUANTITIES
from hpo.report.formatting import NOTHING, spread, with_interval
from hpo.report.tables import Table
from hpo.report.wording import escape


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
