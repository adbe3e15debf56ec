"""Tables of a comparison of studies."""

import math

from hpo.analysis.performance_profiles import TABLE_RATIOS
from hpo.analysis.results import StudyNumbers
from hpo.analysis.study_comparison import StudyComparison
from hpo.report import formatting
from hpo.report.formatting import NOTHING, escape
from hpo.report.tables import Table


def reached(comparison: StudyComparison) -> Table:
    """A1: what every configuration reached in every study."""
    rows = [
        [escape(entry.name), *(_value(entry.name, numbers) for numbers in comparison.studies)]
        for entry in comparison.overall
    ]
    return Table(["configuration", *map(_heading, comparison.studies)], rows, range(1, len(comparison.studies) + 1))


def differences(comparison: StudyComparison) -> Table:
    """A2: every configuration against the baseline of its study, with the study's own verdict."""
    rows = [
        [escape(entry.name), *(_verdict(entry.name, one) for one in comparison.studies)] for entry in comparison.overall
    ]
    header = [f"{_heading(one)} against {escape(one.baseline.name)}" for one in comparison.studies]
    return Table(["configuration", *header], rows)


def overall(comparison: StudyComparison) -> Table:
    """A3: how often each verdict was reached."""
    words = [word for word in comparison.overall[0].words if any(entry.words[word] for entry in comparison.overall)]
    rows = []
    for entry in comparison.overall:
        judged = sum(entry.words.values())
        if not judged:
            continue
        rows.append([escape(entry.name), str(judged), *(str(entry.words[word]) for word in words)])
    return Table(["configuration", "studies judged", *words], rows, range(1, len(words) + 2))


def profiles(comparison: StudyComparison) -> Table:
    """A4: the performance profiles in numbers."""
    header = ["configuration", *(f"within τ = {limit:g}" for limit in TABLE_RATIOS), "score"]
    rows = [
        [escape(entry.name), *(formatting.percent(share, 0) for _, share in entry.shares), f"{entry.score:.3f}"]
        for entry in comparison.profiles
    ]
    return Table(header, rows, range(1, len(header)))


def times_to_target(comparison: StudyComparison) -> Table:
    """A5: the epochs that the profiles are made from."""
    header = ["study", "target", *(f"{escape(name)}, epochs (ratio)" for name in comparison.shared)]
    rows = []
    for race in comparison.times_to_target:
        share = race.metric.endswith(("accuracy", "fitted", "recovered"))
        target = formatting.percent(race.target) if share else formatting.three_digits(race.target)
        cells = [_time(race.epochs[name], race.ratios[name]) for name in comparison.shared]
        rows.append([escape(race.study), f"{escape(race.metric.replace('_', ' '))} {target}", *cells])
    return Table(header, rows, range(2, len(header)))


def _time(epochs: float, ratio: float) -> str:
    return f"{epochs:g} ({ratio:.2f})" if math.isfinite(epochs) else "never"


def _heading(numbers: StudyNumbers) -> str:
    return f"{escape(numbers.study['name'])}: {escape(numbers.metric.label)}"


def _value(name: str, numbers: StudyNumbers) -> str:
    for entry in numbers.configurations:
        if entry.name == name:
            judged = entry.reruns.metric_summary
            return f"{formatting.spread(judged, numbers.metric)} (n = {judged.n})" if judged.n else NOTHING
    return NOTHING


def _verdict(name: str, numbers: StudyNumbers) -> str:
    metric = numbers.metric
    for rival in numbers.rivals:
        if rival.name == name:
            words, paired = formatting.verdict_words(rival.verdict, metric), rival.verdict.comparison
            shown = (
                f"{formatting.amount(paired.mean, metric)} {formatting.difference_interval(paired.interval, metric)}: "
                if paired.n
                else ""
            )
            return shown + words
    return "baseline" if name == numbers.baseline.name else NOTHING
