"""The test metric by which verdicts compare configurations."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from hpo.analysis.paired_tests import Direction
from hpo.tasks import OPTIONAL, SHARES, TOP5, direction_of_metric, metric_words, task_of

MAX_CLASSES_WITHOUT_TOP5 = 10


class Metric(NamedTuple):
    """A test metric that verdicts compare.

    Attributes:
        name: its key in the results of reruns, such as `test_accuracy`. direction: which values are better.
        share: whether it is a fraction, shown in percent, with differences in percentage points. A diverged rerun then
            has the value of an untrained network, else no value.
    """

    name: str
    direction: Direction
    share: bool

    @property
    def label(self) -> str:
        """Its name in text: "test accuracy", "test R²"."""
        return metric_words(self.name)

    @property
    def title(self) -> str:
        """Its name at the beginning of a sentence: "Test R²"."""
        return self.label[:1].upper() + self.label[1:]

    @property
    def short(self) -> str:
        """Its name without the part of the data: "accuracy"."""
        return metric_words(self.name.partition("_")[2])


ACCURACY = Metric("test_accuracy", "maximize", share=True)
TRAIN_LOSS = Metric("train_loss", "minimize", share=False)
NOISY_LABELS = Metric("noisy_labels_fitted", "minimize", share=True)
GENERALISATION_GAP = "generalisation_gap"


def primary_metric(definition: Mapping[str, Any]) -> Metric:
    """The test metric that studies of this task compare by default, such as accuracy."""
    return _built_in(f"test_{task_of(definition).primary}")


def further_metrics(definition: Mapping[str, Any], reported: Collection[str]) -> list[Metric]:
    """The test metrics that hpo reports for the task, other than the one that the verdicts compare.

    Args:
        reported: what reruns report, as not all data sets have all metrics.
    """
    task = task_of(definition)
    names = [name for name in (*task.metrics, *task.test_metrics) if name not in OPTIONAL or f"test_{name}" in reported]
    metrics = [_built_in(f"test_{name}") for name in names]
    return [metric for metric in metrics if metric.name != metric_of(definition).name]


def shown_metrics(further: Collection[Metric], classes: int | None) -> list[Metric]:
    """Those of the further metrics that the results show; top-5 accuracy of few classes is only in results.json."""
    few = (classes or 0) <= MAX_CLASSES_WITHOUT_TOP5
    return [metric for metric in further if metric.name != f"test_{TOP5}" or not few]


def gap_metric(definition: Mapping[str, Any]) -> Metric:
    """The generalisation gap, in the unit of the task's primary metric."""
    return primary_metric(definition)._replace(name=GENERALISATION_GAP, direction="minimize")


def metric_of(definition: Mapping[str, Any]) -> Metric:
    """The test metric that corresponds to the study's score, in the score's direction.

    For a score without one (the training loss, the noisy labels fitted) verdicts compare the task's primary metric.
    """
    part, _, name = str(definition["score"]).partition("_")
    if part != "validation":
        return primary_metric(definition)
    return Metric(f"test_{name}", definition["direction"], share=_is_share(name, definition))


def score_of(definition: Mapping[str, Any]) -> Metric:
    """The study's score, which tuning optimises."""
    part, _, name = str(definition["score"]).partition("_")
    share = part == "noisy" or (part == "validation" and _is_share(name, definition))
    return Metric(definition["score"], definition["direction"], share)


def _built_in(name: str) -> Metric:
    part_free = name.partition("_")[2]
    return Metric(name, direction_of_metric(part_free), share=part_free in SHARES)


def _is_share(name: str, definition: Mapping[str, Any]) -> bool:
    return name in SHARES and name in task_of(definition).metrics
