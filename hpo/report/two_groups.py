"""How a report says that a configuration's values lie in two groups, of which the mean describes neither."""

from collections.abc import Iterator

from hpo.analysis.metric import ACCURACY, Metric
from hpo.analysis.results import ConfigurationNumbers, StudyNumbers
from hpo.analysis.two_groups import TwoGroups
from hpo.errors import plural
from hpo.report.formatting import metric_value
from hpo.report.wording import escape

NOISY_LABELS = ACCURACY._replace(name="noisy_labels_fitted")


def with_groups(cell: str, entry: ConfigurationNumbers, metric: Metric) -> str:
    """A mean ± SD, with a mark if the values lie in two groups, of which a sentence below the table tells."""
    return f"{cell} (two groups)" if metric.name in entry.reruns.two_groups else cell


def group_warnings(numbers: StudyNumbers) -> Iterator[str]:
    """A sentence for every mean that lies between two groups."""
    for entry, metric, groups in find_groups(numbers):
        yield (
            f"{escape(entry.name)}: the values of {escape(metric.label)} lie in two groups, {_counts(groups, metric)}; "
            "their mean describes neither"
        )


def find_groups(numbers: StudyNumbers) -> Iterator[tuple[ConfigurationNumbers, Metric, TwoGroups]]:
    """Every configuration and quantity whose values lie in two groups."""
    for entry in numbers.configurations:
        for metric in (numbers.metric, NOISY_LABELS):
            if groups := entry.reruns.two_groups.get(metric.name):
                yield entry, metric, groups


def values_in_full(values: dict[int, float], metric: Metric) -> str:
    """ "3: 1.20%, 5: 1.52%", with the seed or the number of the tuning run, which counts from 1."""
    return ", ".join(f"{unit}: {metric_value(value, metric)}" for unit, value in values.items())


def _counts(groups: TwoGroups, metric: Metric) -> str:
    """ "6 tuning runs up to 5.30% and 4 from 70.00% on"."""
    low, high = max(groups.lower.values()), min(groups.upper.values())
    return (
        f"{plural(len(groups.lower), groups.unit)} up to {metric_value(low, metric)} "
        f"and {len(groups.upper)} from {metric_value(high, metric)} on"
    )
