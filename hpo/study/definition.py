"""The canonical definition of a study: JSON that says everything a result depends on, its digest, and changes."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hpo.errors import UsageError, did_you_mean
from hpo.models.losses import CrossEntropy, SampleLoss
from hpo.optim.optimizers import OPTIMIZERS, Optimizer
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.schedules import Constant
from hpo.search_space import Range
from hpo.study.study import Configuration, Study


def regularizer_of(configuration: Configuration) -> Regularizer:
    """The configuration's regularizer, looked up by name where a name is given."""
    return _component(configuration, "regularizer", configuration.regularizer, REGULARIZERS, Regularizer)


def optimizer_of(configuration: Configuration) -> Optimizer:
    """The configuration's optimizer, looked up by name where a name is given."""
    return _component(configuration, "optimizer", configuration.optimizer, OPTIMIZERS, Optimizer)


def loss_of(study: Study) -> SampleLoss:
    """The loss of a sample that the study trains."""
    return study.loss or CrossEntropy(float(study.label_smoothing))


def direction_of(study: Study) -> str:
    """Whether tuning is to "maximize" or "minimize" the study's score."""
    return study.direction or ("minimize" if study.score.endswith("loss") else "maximize")


def full_space(configuration: Configuration) -> dict[str, Range | float]:
    """Every hyperparameter of the configuration with its range or fixed value, defaults filled in.

    Raises:
        UsageError: the configuration's space names something that neither its optimizer nor its regularizer has.
    """
    optimizer, regularizer = optimizer_of(configuration), regularizer_of(configuration)
    defaults = {**optimizer.hyperparameters, **regularizer.hyperparameters}
    shared = set(optimizer.hyperparameters) & set(regularizer.hyperparameters)
    if shared:
        raise UsageError(
            f"configuration {configuration.name!r}: optimizer {optimizer.name!r} and regularizer "
            f"{regularizer.name!r} both have {min(shared)!r}; rename the regularizer's"
        )
    shown: dict[str, str] = {}
    for name in defaults:
        other = shown.setdefault(" ".join(name.replace("_", " ").split()), name)
        if other != name:
            raise UsageError(
                f"configuration {configuration.name!r}: hyperparameters {other!r} and {name!r} look alike in reports, "
                "which show no '_'; rename one of them"
            )
    for name in configuration.space:
        if name not in defaults:
            raise UsageError(
                f"configuration {configuration.name!r}: space names {name!r}, which neither optimizer "
                f"{optimizer.name!r} nor regularizer {regularizer.name!r} has; choose from {', '.join(defaults)}"
                f"{did_you_mean(name, defaults)}"
            )
    space = {**defaults, **configuration.space}
    for name, entry in space.items():
        default = defaults[name]
        if isinstance(entry, Range) and entry.off is None and isinstance(default, Range):
            space[name] = dataclasses.replace(entry, off=default.off)
    return space


def describe(study: Study) -> dict[str, Any]:
    """The study's definition as JSON values, everything filled in; the numbers that may be raised are not in it.

    The loss is named where it is another than plain cross-entropy, metrics and the pruner where the study has any.

    Raises:
        UsageError: the parts do not fit together: a hyperparameter that is nobody's, views that nobody makes.
    """
    loss = loss_of(study)
    arithmetic = {"precision": study.precision, "channels_last": study.channels_last}
    _check_views(study)
    return {
        "data": _describe_part(study.data),
        "model": _describe_part(study.model),
        "batch_size": study.batch_size,
        "epochs": study.epochs,
        "tuning_epochs": study.tuning_epochs or study.epochs,
        "score": study.score,
        "direction": direction_of(study),
        "score_epoch": study.score_epoch,
        "schedule": _describe_part(study.schedule or Constant()),
        **({} if loss == CrossEntropy() else {"loss": _describe_part(loss)}),
        **({"metrics": {name: _describe_part(study.metrics[name]) for name in study.metrics}} if study.metrics else {}),
        **(arithmetic if study.precision != "float32" or study.channels_last else {}),
        **({"seeds_per_trial": study.seeds_per_trial} if study.seeds_per_trial > 1 else {}),
        **({"pruner": _describe_part(study.pruner)} if study.pruner is not None else {}),
        "margin": float(study.margin),
        "baseline": study.baseline,
        "configurations": [_describe_configuration(configuration) for configuration in study.configurations],
    }


def _check_views(study: Study) -> None:
    """Refuses a regularizer of several augmented views on data of which all views would be the same."""
    for configuration in study.configurations:
        regularizer = regularizer_of(configuration)
        if regularizer.views > 1 and not study.data.augments:
            raise UsageError(
                f"configuration {configuration.name!r}: regularizer {regularizer.name!r} needs {regularizer.views} "
                f"augmented views and the data set {type(study.data).__name__} does not augment; give one that does, "
                "such as hpo.Mnist1d(augmented=True)"
            )


def digest(definition: Mapping[str, Any]) -> str:
    """SHA-256 of the definition in canonical form."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _component(configuration: Configuration, field: str, given: Any, registry: Mapping[str, Any], kind: type) -> Any:
    if isinstance(given, kind):
        return given
    if isinstance(given, str) and given in registry:
        return registry[given]
    raise UsageError(
        f"configuration {configuration.name!r}: {field} is {given!r}; give an hpo.{kind.__name__} or one of "
        f"{', '.join(registry)}{did_you_mean(given, registry) if isinstance(given, str) else ''}"
    )


def _describe_configuration(configuration: Configuration) -> dict[str, Any]:
    optimizer, regularizer = optimizer_of(configuration), regularizer_of(configuration)
    return {
        "name": configuration.name,
        "optimizer": _named(optimizer, OPTIMIZERS),
        "regularizer": _named(regularizer, REGULARIZERS),
        "trials": configuration.trials,
        "prediction": configuration.prediction,
        "space": {
            name: dataclasses.asdict(entry) if isinstance(entry, Range) else float(entry)
            for name, entry in full_space(configuration).items()
        },
    }


def _named(component: Any, registry: Mapping[str, Any]) -> str:
    """A component's name, marked where it is the user's own under a built-in's name."""
    return component.name if registry.get(component.name) in (None, component) else f"own:{component.name}"


def _describe_part(part: Any) -> dict[str, Any]:
    """A part of a study: a frozen dataclass by its fields, a partial by its arguments, anything else by its name."""
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if _counts(part, field)}
        described = {"kind": type(part).__name__, **_beside(fields, "kind")}
    elif isinstance(part, functools.partial):
        given = _beside(part.keywords, "kind", "arguments")
        described = {"kind": _qualified_name(part.func), "arguments": part.args, **given}
    else:
        described = {"kind": _qualified_name(part)}
    try:
        return json.loads(json.dumps(described))
    except TypeError as error:
        raise UsageError(
            f"{type(part).__name__}: a field is not a plain value ({error}); use numbers and strings"
        ) from error


def _beside(fields: Mapping[str, Any], *taken: str) -> dict[str, Any]:
    """Fields under names that leave those taken here to their meaning."""
    return {f"own {name}" if name in taken else name: value for name, value in fields.items()}


def _counts(part: Any, field: dataclasses.Field[Any]) -> bool:
    """Whether a field belongs to the definition.

    A field with metadata `{"described": False}` never does (where a machine keeps its files), and one with the name of
    another field does while that one is true, not 0 and not empty.
    """
    told = field.metadata.get("described", True)
    return bool(getattr(part, told)) if isinstance(told, str) else bool(told)


def _qualified_name(part: Any) -> str:
    return getattr(part, "__qualname__", type(part).__qualname__)
