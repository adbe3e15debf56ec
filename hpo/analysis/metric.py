"""The verdict's metric: which test metric the configurations are compared by."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from hpo.analysis.paired_tests import Direction


class Metric(NamedTuple):
    """A test metric that verdicts compare.

    Attributes:
        name: as reruns report it, such as `test_accuracy`. direction: which sign of a difference is the better one.
        share: whether it is a fraction, shown in percent, with differences in percentage points; a rerun that
            diverged then has the value of an untrained network, and none where this is False.
    """

    name: str
    direction: Direction
    share: bool

    @property
    def label(self) -> str:
        """In words: test accuracy."""
        return self.name.replace("_", " ")


ACCURACY = Metric("test_accuracy", "maximize", share=True)


def metric_of(definition: Mapping[str, Any]) -> Metric:
    """The test metric that answers to the study's score, in the score's direction.

    A score without one (the training loss, the noisy labels fitted) leaves the verdict to test accuracy.
    """
    part, _, own = str(definition["score"]).partition("_")
    if part != "validation":
        return ACCURACY
    return Metric(f"test_{own}", definition["direction"], share=own == "accuracy")
