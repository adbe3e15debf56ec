"""A study's custom metrics: of single samples, or of a whole set; and their names."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hpo.errors import UsageError
from hpo.tasks import CLASSIFICATION, LOSS, Task

NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
PARTS = ("train_", "validation_", "test_", "noisy_labels_", "clean_labels_")  # prefixes of hpo's own names


@dataclass(frozen=True)
class Whole:
    """A metric of a whole set of samples; see `whole`."""

    function: Callable[..., Any]


def whole(function: Callable[..., Any]) -> Whole:
    """A metric of a whole set, such as an F1 score or an area under a curve, which is no mean over samples.

    Args:
        function: (outputs [N, ...], labels [N, ...]) of all N samples of the set, on the CPU, to one number. Where the
            network gives one number per label, as in regression, outputs have the labels' shape. It is called for one
            model after the other; a study's other metrics are computed for all models at once.
    """
    return Whole(function)


def is_accumulator(metric: object) -> bool:
    """Whether a metric collects outputs by `update` and returns its number from `compute`, as torchmetrics do."""
    return all(callable(getattr(metric, name, None)) for name in ("update", "compute", "reset"))


def is_whole(metric: object) -> bool:
    """Whether a metric takes all samples of a set at once."""
    return isinstance(metric, Whole) or is_accumulator(metric)


def check_metrics(metrics: object, task: Task = CLASSIFICATION) -> None:
    """Raises UsageError unless these are metrics by names that hpo does not use itself."""
    if not isinstance(metrics, Mapping):
        raise UsageError('metrics is not a mapping; give {"name": function of (outputs, labels)}')
    reserved = (*task.metrics, LOSS, "samples")  # hpo reports these as validation_… and test_…
    for name, metric in metrics.items():
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in reserved:
            raise UsageError(
                f"metrics has the name {name!r}; use lower-case letters, digits and '_', and none of "
                f"{', '.join(reserved)}, which hpo reports itself"
            )
        if name.startswith(PARTS):
            raise UsageError(
                f"metrics has the name {name!r}, but names that begin with {', '.join(PARTS)} are reserved; use "
                f"another, such as 'own_{name}'"
            )
        _check_metric(name, metric.function if isinstance(metric, Whole) else metric)


def _check_metric(name: str, metric: object) -> None:
    if isinstance(metric, type) and is_accumulator(metric):
        raise UsageError(f"metrics[{name!r}] is the class {metric.__name__}; give an instance, {metric.__name__}(...)")
    if not callable(metric) and not is_accumulator(metric):
        raise UsageError(
            f"metrics[{name!r}] is not callable; give a function (outputs, labels) to one value a sample, or "
            "hpo.whole(function) for one number of a whole set"
        )
