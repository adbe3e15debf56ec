"""How a report says that a configuration's values lie in two groups, or one apart, of which the mean describes none."""

from collections.abc import Iterator

from hpo.analysis.metric import GENERALISATION_GAP, NOISY_LABELS, TRAIN_LOSS, Metric, further_metrics, gap_metric
from hpo.analysis.results import ConfigurationNumbers, StudyNumbers
from hpo.analysis.two_groups import TwoGroups
from hpo.errors import plural
from hpo.report.formatting import amount, metric_value
from hpo.report.wording import escape, listed

LABELS = {TRAIN_LOSS.name: "final training loss", GENERALISATION_GAP: "generalisation gap"}


def with_groups(cell: str, entry: ConfigurationNumbers, metric: Metric) -> str:
    """A mean, with a mark if its values lie in two groups or one apart, of which a sentence below the table tells."""
    groups = entry.reruns.two_groups.get(metric.name)
    return cell if groups is None else f"{cell} ({'one apart' if groups.has_single else 'two groups'})"


def group_warnings(numbers: StudyNumbers) -> Iterator[str]:
    """A sentence for every configuration with a mean that lies between two groups, or one value apart."""
    found = list(find_groups(numbers))
    for entry in numbers.configurations:
        own = [(metric, groups) for other, metric, groups in found if other is entry]
        split = [_groups(metric, groups) for metric, groups in own if not groups.has_single]
        apart = [_apart(metric, groups) for metric, groups in own if groups.has_single]
        clauses = []
        if split:
            clauses.append(f"the values of {listed(split)} lie in two groups, of which the mean describes neither")
        if apart:
            clauses.append(f"one value lies apart from the others in {listed(apart)}")
        if clauses:
            yield f"{escape(entry.name)}: {'; '.join(clauses)}"


def find_groups(numbers: StudyNumbers) -> Iterator[tuple[ConfigurationNumbers, Metric, TwoGroups]]:
    """Every configuration and quantity whose values lie in two groups, or one apart."""
    for entry in numbers.configurations:
        further = further_metrics(numbers.definition, entry.reruns.test_metrics)
        for metric in (numbers.metric, *further, TRAIN_LOSS, gap_metric(numbers.definition), NOISY_LABELS):
            if groups := entry.reruns.two_groups.get(metric.name):
                yield entry, metric, groups


def quantity_label(metric: Metric) -> str:
    """The heading of the quantity in T1, in Markdown."""
    return escape(LABELS.get(metric.name, metric.label))


def values_in_full(values: dict[int, float], metric: Metric) -> str:
    """ "3: 1.20%, 5: 1.52%", with the seed or the number of the tuning run, which counts from 1."""
    return ", ".join(f"{unit}: {_value(value, metric)}" for unit, value in values.items())


def _value(value: float, metric: Metric) -> str:
    return amount(value, metric) if metric.name == GENERALISATION_GAP else metric_value(value, metric)


def _groups(metric: Metric, groups: TwoGroups) -> str:
    """ "noisy labels fitted (6 tuning runs up to 5.30%, 4 from 70.00% on)"."""
    low, high = _ends(metric, groups)
    return f"{quantity_label(metric)} ({plural(len(groups.lower), groups.unit)} {low}, {len(groups.upper)} {high})"


def _apart(metric: Metric, groups: TwoGroups) -> str:
    """ "noisy labels fitted (one tuning run at 92.80%, the others up to 18.30%)"."""
    above = len(groups.upper) == 1
    [single] = (groups.upper if above else groups.lower).values()
    others = _ends(metric, groups)[0 if above else 1]
    return f"{quantity_label(metric)} (one {groups.unit} at {_value(single, metric)}, the others {others})"


def _ends(metric: Metric, groups: TwoGroups) -> tuple[str, str]:
    """Where the lower group ends and the upper one begins."""
    low, high = max(groups.lower.values()), min(groups.upper.values())
    return f"up to {_value(low, metric)}", f"from {_value(high, metric)} on"
