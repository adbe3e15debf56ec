"""The names of a study's custom metrics."""

import re
from collections.abc import Mapping

from hpo.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
RESERVED = ("accuracy", "loss", "samples")  # hpo reports these as validation_… and test_…
PARTS = ("train_", "validation_", "test_", "noisy_labels_", "clean_labels_")  # prefixes of hpo's own names


def check_metrics(metrics: object) -> None:
    """Raises UsageError unless these are functions by names that hpo does not use itself."""
    if not isinstance(metrics, Mapping):
        raise UsageError('metrics is not a mapping; give {"name": function of (outputs, labels)}')
    for name, metric in metrics.items():
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in RESERVED:
            raise UsageError(
                f"metrics has the name {name!r}; use lower-case letters, digits and '_', and none of "
                f"{', '.join(RESERVED)}, which hpo reports itself"
            )
        if name.startswith(PARTS):
            raise UsageError(
                f"metrics has the name {name!r}, but names that begin with {', '.join(PARTS)} are reserved; use "
                f"another, such as 'own_{name}'"
            )
        if not callable(metric):
            raise UsageError(
                f"metrics[{name!r}] is not callable; give a function (outputs, labels) -> one value a sample"
            )
