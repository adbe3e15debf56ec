"""Comparisons with other configurations than the baseline that a study plans: `Configuration.against`."""

from collections.abc import Mapping
from typing import Any

from hpo.errors import UsageError, did_you_mean, require

PREDICTIONS = ("better", "worse", "equivalent", None)


def planned_against(configuration: Any) -> dict[str, str | None]:
    """The configurations that this one is compared with besides the baseline → what the author predicts."""
    against = configuration.against
    if isinstance(against, Mapping):
        return dict(against)
    return dict.fromkeys([against] if isinstance(against, str) else against)


def check_against(configuration: Any) -> None:
    """Raises UsageError unless `against` has a valid form."""
    owner, against = f"configuration {configuration.name!r}: against", configuration.against
    valid = isinstance(against, str | list | tuple | Mapping)
    expected = "the name of another configuration, several, or a dict of names and predictions"
    require(valid and all(isinstance(name, str) for name in planned_against(configuration)), owner, against, expected)
    for name, prediction in planned_against(configuration).items():
        expected = "'better', 'worse', 'equivalent' or None"
        require(prediction in PREDICTIONS, f"{owner}[{name!r}]", prediction, expected)


def check_planned_comparisons(study: Any) -> None:
    """Raises UsageError unless every planned comparison is with another configuration, and planned once."""
    names = [configuration.name for configuration in study.configurations]
    planned = {frozenset((name, study.baseline)) for name in names if name != study.baseline}
    for configuration in study.configurations:
        for other in planned_against(configuration):
            owner, pair = f"configuration {configuration.name!r}: against", frozenset((configuration.name, other))
            hint = did_you_mean(other, names)
            require(other in names, owner, other, f"the name of one of the configurations: {', '.join(names)}{hint}")
            if len(pair) == 1:
                raise UsageError(f"{owner} is its own name; give the name of another configuration")
            if pair in planned:
                with_baseline = "every configuration is compared with the baseline anyway"
                reason = with_baseline if study.baseline in pair else "that comparison is planned twice"
                raise UsageError(f"{owner} is {other!r}, but {reason}; leave it out")
            planned.add(pair)
