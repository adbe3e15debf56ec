"""The test metric by which verdicts compare configurations."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from hpo.analysis.paired_tests import Direction


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
        """Its name in text: "test accuracy"."""
        return self.name.replace("_", " ")


ACCURACY = Metric("test_accuracy", "maximize", share=True)
SHARES = {"test_accuracy", "validation_accuracy", "noisy_labels_fitted", "noisy_labels_recovered"}


def metric_of(definition: Mapping[str, Any]) -> Metric:
    """The test metric that corresponds to the study's score, in the score's direction.

    For a score without one (the training loss, the noisy labels fitted) verdicts compare test accuracy.
    """
    part, _, name = str(definition["score"]).partition("_")
    if part != "validation":
        return ACCURACY
    return Metric(f"test_{name}", definition["direction"], share=f"test_{name}" in SHARES)


def score_of(definition: Mapping[str, Any]) -> Metric:
    """The study's score, which tuning optimises."""
    return Metric(definition["score"], definition["direction"], share=definition["score"] in SHARES)
