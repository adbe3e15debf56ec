"""Whether higher or lower values of a study's score and of its custom metrics are better."""

from collections.abc import Mapping
from typing import Any, Literal

from hpo.errors import UsageError, require
from hpo.tasks import direction_of_metric
from hpo.user_code.metrics import Whole

Direction = Literal["maximize", "minimize"]
DIRECTIONS: tuple[Direction, ...] = ("maximize", "minimize")


def direction_of(study: Any) -> Direction:
    """Whether tuning should "maximize" or "minimize" the study's score."""
    return _given(study) or direction_of_metric(study.score.partition("_")[2])


def metric_directions(study: Any) -> dict[str, Direction]:
    """Custom metric → its direction, where the study or the metric itself says it.

    torchmetrics say it by `higher_is_better`.
    """
    given = dict(study.direction) if isinstance(study.direction, Mapping) else {}
    scored = study.score.removeprefix("validation_")
    if scored in study.metrics:
        given[scored] = direction_of(study)
    for name, metric in study.metrics.items():
        higher = getattr(metric.function if isinstance(metric, Whole) else metric, "higher_is_better", None)
        if name not in given and isinstance(higher, bool):
            given[name] = "maximize" if higher else "minimize"
    return given


def check_directions(study: Any) -> None:
    """Raises UsageError unless the study says the direction of a score that is a custom metric, and no others."""
    one = "'maximize' or 'minimize'"
    if isinstance(study.direction, Mapping):
        for name, direction in study.direction.items():
            known = ", ".join(study.metrics) or "none"
            require(name in study.metrics, "direction", name, f"the name of a custom metric (here: {known}), or {one}")
            require(direction in DIRECTIONS, f"direction[{name!r}]", direction, one)
    else:
        require(study.direction in (None, *DIRECTIONS), "direction", study.direction, f"{one}, or a dict of metrics")
    if study.score.removeprefix("validation_") in study.metrics and not _given(study):
        raise UsageError(f"score is the custom metric {study.score!r}; give direction={one}")


def _given(study: Any) -> Direction | None:
    if isinstance(study.direction, Mapping):
        return study.direction.get(study.score.removeprefix("validation_"))
    return study.direction
