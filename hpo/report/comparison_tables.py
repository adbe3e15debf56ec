"""Tables of a comparison of studies."""

import math

from hpo.analysis.metric import Metric
from hpo.analysis.performance_profiles import TABLE_RATIOS
from hpo.analysis.results import StudyNumbers
from hpo.analysis.study_comparison import OverallPlanned, StudyComparison
from hpo.analysis.verdicts import Verdict
from hpo.report.formatting import NOTHING, amount, difference_interval, metric_value, percent, spread
from hpo.report.tables import Table
from hpo.report.wording import escape, verdict_words


def results(comparison: StudyComparison) -> Table:
    """A1: the result of every configuration in every study."""
    studies = comparison.studies
    rows = [[escape(entry.name), *(_result(entry.name, study) for study in studies)] for entry in comparison.overall]
    return Table(["configuration", *map(_heading, studies)], rows, range(1, len(studies) + 1))


def differences(comparison: StudyComparison) -> Table:
    """A2: every configuration against the baseline of its study, with the study's own verdict."""
    studies = comparison.studies
    rows = [[escape(entry.name), *(_verdict(entry.name, study) for study in studies)] for entry in comparison.overall]
    rows += [
        [escape(f"{entry.name} against {entry.against}"), *(_planned_verdict(entry, study) for study in studies)]
        for entry in comparison.planned
    ]
    header = [f"{_heading(study)} against {escape(study.baseline.name)}" for study in studies]
    return Table(["configuration", *header], rows)


def overall(comparison: StudyComparison) -> Table:
    """A3: how often each verdict was reached."""
    counts = {escape(entry.name): entry.words for entry in comparison.overall}
    counts |= {escape(f"{entry.name} against {entry.against}"): entry.words for entry in comparison.planned}
    words = [word for word in comparison.overall[0].words if any(number[word] for number in counts.values())]
    rows = [
        [name, str(sum(number.values())), *(str(number[word]) for word in words)]
        for name, number in counts.items()
        if any(number.values())
    ]
    return Table(["configuration", "verdicts", *words], rows, range(1, len(words) + 2))


def profiles(comparison: StudyComparison) -> Table:
    """A4: the performance profiles in numbers."""
    header = ["configuration", *(f"within τ = {limit:g}" for limit in TABLE_RATIOS), "score"]
    rows = [
        [escape(entry.name), *(percent(share, 0) for _, share in entry.shares), f"{entry.score:.3f}"]
        for entry in comparison.profiles
    ]
    return Table(header, rows, range(1, len(header)))


def times_to_target(comparison: StudyComparison) -> Table:
    """A5: the epochs that the profiles are computed from."""
    header = ["study", "target", *(f"{escape(name)}, epochs (ratio)" for name in comparison.shared)]
    rows = []
    for time in comparison.times_to_target:
        target = f"{escape(time.metric.label)} {metric_value(time.target, time.metric)}"
        cells = [_time(time.epochs[name], time.ratios[name]) for name in comparison.shared]
        rows.append([escape(time.study), target, *cells])
    return Table(header, rows, range(2, len(header)))


def _time(epochs: float, ratio: float) -> str:
    return f"{epochs:g} ({ratio:.2f})" if math.isfinite(epochs) else "never"


def _heading(numbers: StudyNumbers) -> str:
    return f"{escape(numbers.study['name'])}: {escape(numbers.metric.label)}"


def _result(name: str, numbers: StudyNumbers) -> str:
    summaries = {entry.name: entry.reruns.metric_summary for entry in numbers.configurations}
    summary = summaries.get(name)
    return f"{spread(summary, numbers.metric)} (n = {summary.n})" if summary and summary.n else NOTHING


def _verdict(name: str, numbers: StudyNumbers) -> str:
    if name == numbers.baseline.name:
        return "baseline"
    verdicts = {rival.name: rival.verdict for rival in numbers.rivals}
    return _verdict_cell(verdicts.get(name), numbers.metric)


def _planned_verdict(entry: OverallPlanned, numbers: StudyNumbers) -> str:
    verdicts = {(rival.name, rival.against): rival.verdict for rival in numbers.planned}
    return _verdict_cell(verdicts.get((entry.name, entry.against)), numbers.metric)


def _verdict_cell(verdict: Verdict | None, metric: Metric) -> str:
    if verdict is None:
        return NOTHING
    paired, words = verdict.comparison, verdict_words(verdict, metric)
    if not paired.n:
        return words
    shown = f"{amount(paired.mean, metric)} {difference_interval(paired.interval, metric)}".removesuffix(f" {NOTHING}")
    return f"{shown}: {words}"


TABLES = (results, differences, overall, profiles, times_to_target)
