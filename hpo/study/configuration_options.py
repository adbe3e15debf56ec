"""Parameter groups, averages and schedules of a configuration: their checks, and how a definition has them."""

from collections.abc import Mapping
from typing import Any

from hpo.errors import UsageError, did_you_mean, is_number, require
from hpo.optim.averages import AVERAGES, Average
from hpo.optim.optimizers import Optimizer
from hpo.optim.parameter_groups import Fixed
from hpo.optim.torch_arguments import RATE
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.study.components import optimizer_of, parts_of
from hpo.study.study import Configuration


def check_options(configuration: Configuration) -> None:
    """Raises UsageError unless the options are valid and fit the configuration's optimizer and regularizer."""
    try:
        optimizer = optimizer_of(configuration)
        _check_groups(configuration, optimizer)
        _check_average(configuration, optimizer)
        _check_schedules(configuration)
    except UsageError as error:
        raise UsageError(f"configuration {configuration.name!r}: {error}") from error


def describe_groups(configuration: Configuration) -> dict[str, Any]:
    """The parameter groups as JSON values, by the fields that the configuration uses."""
    described: dict[str, Any] = {}
    if configuration.groups:
        described["groups"] = {
            pattern: {
                name: {"fixed": change.value} if isinstance(change, Fixed) else float(change)
                for name, change in changes.items()
            }
            for pattern, changes in configuration.groups.items()
        }
    if configuration.no_decay:
        described["no_decay"] = list(configuration.no_decay)
    return described


def _check_groups(configuration: Configuration, optimizer: Optimizer | TorchOptimizer) -> None:
    groups, no_decay = configuration.groups, configuration.no_decay
    expected = "a tuple of parameter names or patterns, such as ('bias', 'norm')"
    listed = isinstance(no_decay, tuple | list) and all(isinstance(pattern, str) for pattern in no_decay)
    require(listed, "no_decay", no_decay, expected)
    require(isinstance(groups, Mapping), "groups", groups, "a dict such as {'*bias': {'weight_decay': 0}}")
    if (groups or no_decay) and isinstance(optimizer, TorchOptimizer) and not isinstance(optimizer.source, type):
        raise UsageError(
            f"optimizer {optimizer.name!r} is built by a function, which makes its own parameter groups; leave out "
            "groups and no_decay, and make the groups in the function"
        )
    names = [name for name in optimizer.hyperparameters if name not in optimizer.static]
    for pattern, changes in {**groups, **({"no_decay": {"weight_decay": 0}} if no_decay else {})}.items():
        expected = "a dict of hyperparameters, such as {'weight_decay': 0}"
        require(isinstance(changes, Mapping) and bool(changes), f"groups[{pattern!r}]", changes, expected)
        for name, change in changes.items():
            where = "no_decay" if no_decay and pattern == "no_decay" else f"groups[{pattern!r}]"
            if name not in names:
                hint = did_you_mean(str(name), names)
                raise UsageError(
                    f"{where} names {name!r}, which optimizer {optimizer.name!r} does not have; choose from "
                    f"{', '.join(names)}{hint}"
                )
            valid = isinstance(change, Fixed) or is_number(change)
            require(valid, f"{where}[{name!r}]", change, "a factor, or a value as hpo.fixed(value)")


def _check_average(configuration: Configuration, optimizer: Optimizer | TorchOptimizer) -> None:
    average = configuration.average
    if average is None:
        return
    valid = isinstance(average, Average)
    examples = " or ".join(f"hpo.{name}()" for name in AVERAGES)
    require(valid, "average", average, f"{examples}, or None")
    if isinstance(optimizer, Optimizer) and optimizer.evaluated is not None:
        raise UsageError(f"optimizer {optimizer.name!r} has evaluated=... itself; leave out average")


def _check_schedules(configuration: Configuration) -> None:
    schedules = configuration.schedules
    require(isinstance(schedules, Mapping), "schedules", schedules, "a dict such as {'rho': hpo.Linear()}")
    parts = [part for part in parts_of(configuration) if not isinstance(part, Average)]
    names = [name for part in parts for name in part.hyperparameters if name not in (*part.static, RATE)]
    for name, schedule in schedules.items():
        if name == RATE:
            raise UsageError(f"schedules has {RATE!r}, whose schedule is that of the study; give Study(schedule=...)")
        if name not in names:
            raise UsageError(
                f"schedules has {name!r}, which is no number of the optimizer or regularizer; choose from "
                f"{', '.join(names)}{did_you_mean(str(name), names)}"
            )
        expected = f"hpo.Linear(), hpo.Cosine(), a function (step, steps, steps_per_epoch) -> factor, or {RATE!r}"
        require(callable(schedule) or schedule == RATE, f"schedules[{name!r}]", schedule, expected)
