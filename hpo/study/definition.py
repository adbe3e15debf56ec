"""The canonical definition of a study: JSON with everything that a result depends on, and its digest."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hpo.diagnostics import chosen_diagnostics
from hpo.errors import UsageError
from hpo.models.losses import LOSSES, CrossEntropy, SampleLoss
from hpo.optim.optimizers import OPTIMIZERS, Optimizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.schedules import Constant
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.space import as_json
from hpo.stages import Stages
from hpo.study.components import full_space, optimizer_of, regularizer_of
from hpo.study.configuration_options import check_options, describe_groups
from hpo.study.directions import direction_of
from hpo.study.planned_comparisons import planned_against
from hpo.study.search import check_grid, describe_sampler, first_settings, planned_trials
from hpo.study.study import Configuration, Study
from hpo.study.training_space import check_training, is_training, training_names
from hpo.tasks import CLASSIFICATION
from hpo.trials import group_order
from hpo.user_code.metrics import Whole, is_accumulator


def loss_of(study: Study) -> SampleLoss:
    """The loss per sample that the study trains."""
    return study.loss or (CrossEntropy(float(study.label_smoothing)) if study.label_smoothing else _task_loss(study))


def _task_loss(study: Study) -> SampleLoss:
    return LOSSES[study.data.task]


def describe(study: Study) -> dict[str, Any]:
    """The study's definition as JSON values, defaults filled in; the planned numbers, which may grow, are not in it.

    A loss other than plain cross-entropy, metrics, a pruner and other options only have a key where the study uses
    them, so that new options do not change the digests of earlier studies.

    Raises:
        UsageError: the parts do not fit together, such as a hyperparameter that belongs to none of them.
    """
    loss = loss_of(study)
    metrics = {name: _describe_metric(metric) for name, metric in study.metrics.items()}
    arithmetic = {"precision": study.precision, "channels_last": study.channels_last}
    _check_views(study)
    checked = set()  # most configurations of a study have the same training hyperparameters
    for configuration in study.configurations:
        space = full_space(configuration, training_names(study))
        training = repr(sorted((name, repr(entry)) for name, entry in space.items() if is_training(name)))
        if training not in checked:
            check_training(study, configuration, space)
            checked.add(training)
    check_grid(study)
    return {
        "data": _describe_part(study.data),
        "model": _describe_part(study.model),
        "batch_size": _describe_part(study.batch_size) if isinstance(study.batch_size, Stages) else study.batch_size,
        "epochs": study.epochs,
        "tuning_epochs": study.tuning_epochs or study.epochs,
        "score": study.score,
        "direction": direction_of(study),
        "score_epoch": study.score_epoch,
        "schedule": _describe_part(study.schedule or Constant()),
        **({} if study.data.task == CLASSIFICATION.name else {"task": study.data.task}),
        **({} if loss == _task_loss(study) else {"loss": _describe_part(loss)}),
        **({"metrics": metrics} if metrics else {}),
        **(arithmetic if study.precision != "float32" or study.channels_last else {}),
        **({"last_batch": study.last_batch} if study.last_batch != "drop" else {}),
        **({"accumulate": study.accumulate} if study.accumulate > 1 else {}),
        **({"seeds_per_trial": study.seeds_per_trial} if study.seeds_per_trial > 1 else {}),
        **({"pruner": _describe_part(study.pruner)} if study.pruner is not None else {}),
        **({"diagnostics": _describe_diagnostics(study)} if study.diagnostics else {}),
        **({"sampler": describe_sampler(study, _describe_part)} if study.sampler != "tpe" else {}),
        "margin": float(study.margin),
        "baseline": study.baseline,
        "configurations": [_describe_configuration(configuration, study) for configuration in study.configurations],
    }


def _describe_diagnostics(study: Study) -> list[dict[str, Any]]:
    return [_describe_part(each) for each in chosen_diagnostics(study.diagnostics, study.data.task)]


def _check_views(study: Study) -> None:
    """Raises UsageError for a regularizer that needs different views of data that have only one."""
    for configuration in study.configurations:
        regularizer = regularizer_of(configuration)
        views = regularizer.views + regularizer.clean_view
        if regularizer.clean_view and getattr(study.data, "mixing", None):
            raise UsageError(
                f"configuration {configuration.name!r}: regularizer {regularizer.name!r} needs the samples without "
                "augmentation, and mixup and cutmix mix their labels as well; leave them out"
            )
        if views > 1 and not study.data.augments:
            raise UsageError(
                f"configuration {configuration.name!r}: regularizer {regularizer.name!r} needs {views} "
                f"different views and the data set {type(study.data).__name__} does not augment; give one that does, "
                "such as hpo.Mnist1d(augmented=True)"
            )


def digest(definition: Mapping[str, Any]) -> str:
    """SHA-256 of the definition in canonical form.

    The order of an object's keys only counts in parameter groups, where it affects training. Alphabetical order adds
    nothing, so that most earlier studies with several patterns keep their digests.
    """
    orders = [
        [entry["name"], name, patterns]
        for entry in definition.get("configurations", ())
        for name, patterns in group_order(entry).items()
        if patterns != sorted(patterns)
    ]
    counted = {**definition, "group_order": sorted(orders)} if orders else definition
    return hashlib.sha256(json.dumps(counted, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _describe_configuration(configuration: Configuration, study: Study) -> dict[str, Any]:
    optimizer, regularizer = optimizer_of(configuration), regularizer_of(configuration)
    return {
        "name": configuration.name,
        "optimizer": _describe_optimizer(optimizer),
        "regularizer": _named(regularizer, REGULARIZERS),
        "trials": planned_trials(configuration, study),
        **_describe_options(configuration),
        **({"first": first_settings(configuration)} if configuration.first else {}),
        "prediction": configuration.prediction,
        **({"against": planned_against(configuration)} if configuration.against else {}),
        "space": {name: as_json(entry) for name, entry in full_space(configuration).items()},
    }


def _describe_options(configuration: Configuration) -> dict[str, Any]:
    """Parameter groups, average and schedules, each with a key only where the configuration uses it."""
    check_options(configuration)
    described = describe_groups(configuration)
    if configuration.average is not None:
        described["average"] = type(configuration.average).__name__  # its hyperparameters are in the space
    if configuration.schedules:
        described["schedules"] = {
            name: schedule if isinstance(schedule, str) else _describe_part(schedule)
            for name, schedule in configuration.schedules.items()
        }
    return described


def _describe_optimizer(optimizer: Optimizer | TorchOptimizer) -> Any:
    """Its name; of one written for PyTorch also the arguments that are no hyperparameters."""
    if isinstance(optimizer, Optimizer):
        return _named(optimizer, OPTIMIZERS)
    constants = {
        name: _qualified_name(value) if callable(value) else value for name, value in optimizer.constants.items()
    }
    try:
        return json.loads(json.dumps({**constants, "kind": optimizer.title}))
    except TypeError as error:
        raise UsageError(
            f"from_torch({optimizer.name}): an argument is not a plain value ({error}); make it in a function "
            "(named_parameters, **hyperparameters) that returns the optimizer"
        ) from error


def _named(component: Any, registry: Mapping[str, Any]) -> str:
    """A component's name, marked where a custom component has the name of a built-in one."""
    return component.name if registry.get(component.name) in (None, component) else f"custom:{component.name}"


def _describe_part(part: Any) -> dict[str, Any]:
    """A part of a study: a frozen dataclass by its fields, a partial by its arguments, anything else by its name."""
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = [field.name for field in dataclasses.fields(part) if _is_described(part, field)]
        values = {_key(name, "kind"): getattr(part, name) for name in fields}
        described = {"kind": type(part).__name__, **values}
    elif isinstance(part, functools.partial):
        values = {_key(name, "kind", "arguments"): value for name, value in part.keywords.items()}
        described = {"kind": _qualified_name(part.func), "arguments": part.args, **values}
    else:
        described = {"kind": _qualified_name(part)}
    try:
        return json.loads(json.dumps(described))
    except TypeError as error:
        raise UsageError(
            f"{type(part).__name__}: a field is not a plain value ({error}); use numbers and strings"
        ) from error


def _describe_metric(metric: Any) -> dict[str, Any]:
    """A custom metric; of an object such as a torchmetrics one with its settings, its public attributes."""
    if isinstance(metric, Whole):
        return {"whole": True, **_describe_metric(metric.function)}
    if not is_accumulator(metric):
        return _describe_part(metric)
    settings = {name: value for name, value in vars(metric).items() if not name.startswith("_")}
    plain = {
        _key(name, "kind", "whole"): value
        for name, value in settings.items()
        if isinstance(value, str | int | float | None)
    }
    return {"whole": True, "kind": type(metric).__qualname__, **plain}


def _key(name: str, *reserved: str) -> str:
    """The key of a field in a description, where some keys have a meaning already."""
    return f"field {name}" if name in reserved else name


def _is_described(part: Any, field: dataclasses.Field[Any]) -> bool:
    """Whether a field belongs to the definition, as its metadata `described` says (default: True).

    False is for what does not affect results, such as a machine's folders; the name of another field means that the
    field only matters while that one is true, not 0 and not empty.
    """
    described = field.metadata.get("described", True)
    return bool(getattr(part, described)) if isinstance(described, str) else bool(described)


def _qualified_name(part: Any) -> str:
    return getattr(part, "__qualname__", type(part).__qualname__)
