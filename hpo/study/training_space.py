"""Training hyperparameters: what a search space may name besides an optimizer's and a regularizer's hyperparameters.

Each changes a field of the study, an argument of its network or one of its schedule for one configuration. Models that
differ in them have other shapes or take other steps, so that they cannot be trained in one population.
"""

import dataclasses
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hpo.errors import UsageError, did_you_mean
from hpo.optim.schedules import Constant
from hpo.search_space import Choice, Range, Value
from hpo.space import Space, split_space
from hpo.study.sampler import Grid
from hpo.study.study import Configuration, Study

FIELDS = ("batch_size", "label_smoothing", "accumulate")  # those of them that Study has
WHOLE = ("batch_size", "accumulate")  # those that are whole numbers
PARTS = ("model", "schedule")
SHORT = {"dropout": "model.dropout"}  # name → the argument that it stands for
TRAINING_NAMES = (*FIELDS, *SHORT, *(f"{part}.ARGUMENT" for part in PARTS))  # of any study
MAX_COMBINATIONS = 1000  # of values that are checked before training; less than 0.1 s
MAX_SHOWN = 8  # numbers in a choice that a message proposes
STEP_ARGUMENTS = ("step", "steps", "steps_per_epoch")  # of a schedule; they are given in training


def is_training(name: str) -> bool:
    """Whether a search space may name this although it is no hyperparameter of optimizer or regularizer."""
    part, dot, argument = name.partition(".")
    return name in _fields() or (bool(dot) and part in PARTS and bool(argument))


def full_names(values: Mapping[str, Any], others: Collection[str]) -> dict[str, Any]:
    """The values with the full name of each, such as `model.dropout` for `dropout`.

    Args:
        others: the hyperparameters of optimizer and regularizer, whose names are never short ones.

    Raises:
        UsageError: a hyperparameter is given under both names.
    """
    renamed = {short: full for short, full in SHORT.items() if short not in others}
    for short, full in renamed.items():
        if short in values and full in values:
            raise UsageError(f"{full} is given twice, also as {short}, its short name; leave one out")
    return {renamed.get(name, name): value for name, value in values.items()}


def known_names(name: str, known: Iterable[str]) -> str:
    """What to do about a name that is no hyperparameter: what there is, or that it belongs to the whole study."""
    if name in {field.name for field in dataclasses.fields(Study)} - set(FIELDS):
        return f"{name} is a field of Study, the same for all configurations, and cannot be tuned"
    names = list(known)
    return f"choose from {', '.join(names)}{did_you_mean(name, names)}"


def with_training(study: Study, values: Mapping[str, Value]) -> Study:
    """The study with these training hyperparameters.

    Raises:
        UsageError: one of them does not exist or has a value that is not allowed.
    """
    changes: dict[str, Any] = {name: value for name, value in values.items() if name in _fields()}
    arguments: dict[str, dict[str, Value]] = {}
    for name, value in values.items():
        part, dot, argument = name.partition(".")
        if dot:
            arguments.setdefault(part, {})[argument] = value
    for part, given in arguments.items():
        changes[part] = _with_arguments(part, _part(study, part), given)
    return dataclasses.replace(study, **changes) if changes else study


def training_names(study: Study) -> list[str]:
    """All training hyperparameters that the study has."""
    arguments = [f"{part}.{name}" for part in PARTS for name in _arguments(part, _part(study, part)) or ()]
    return [*_fields(), *(short for short, name in SHORT.items() if name in arguments), *arguments]


def check_training(study: Study, configuration: Configuration, space: Mapping[str, Any]) -> None:
    """Raises UsageError unless the training hyperparameters of a configuration's full space fit the study."""
    split = split_space({name: entry for name, entry in space.items() if is_training(name)})
    for name in WHOLE:
        _check_whole(configuration, name, split.tuned.get(name))
    for part in ("", *PARTS):  # the values of a part depend on each other, as a batch and its micro-batches
        names = [name for name in split.names if (name.startswith(f"{part}.") if part else name in FIELDS)]
        try:
            _check_part(study, split, names, grid_values(study, space.keys()))
        except UsageError as error:
            raise UsageError(f"configuration {configuration.name!r}: {error}") from error
    given = {*split.tuned, *split.fixed}
    for name, parameter in _parameters(study.model).items():
        if parameter.default is inspect.Parameter.empty and f"model.{name}" not in given:
            raise UsageError(
                f"configuration {configuration.name!r}: the model function takes {name!r} and nothing gives it; give "
                f"it a default, or space={{'model.{name}': …}} to every configuration"
            )


def grid_values(study: Study, names: Collection[str]) -> dict[str, Any]:
    """The values of the study's grid by the full names of hyperparameters; none without a grid.

    Args:
        names: the hyperparameters of a configuration.
    """
    return full_names(study.sampler.values, names) if isinstance(study.sampler, Grid) else {}


def _check_part(study: Study, split: Space, names: list[str], grid: Mapping[str, Any]) -> None:
    """Raises UsageError for the first combination of values of these hyperparameters that the study cannot have."""
    ranges: dict[str, Range] = {}
    values: dict[str, list[Value]] = {}
    for name in names:
        bounds = split.tuned.get(name)
        if isinstance(bounds, Range) and bounds.integer and name not in grid:
            ranges[name] = bounds
        values[name] = list(grid.get(name, ())) or (bounds.samples() if bounds else [split.fixed[name]])
        values[name] += [split.conditions[name].otherwise] if name in split.conditions else []
    others = math.prod(len(values[name]) for name in names if name not in ranges)
    for name, bounds in ranges.items():
        lowest = int((MAX_COMBINATIONS / others) ** (1 / len(ranges))) - len(values[name])
        values[name] = [*bounds.samples(max(0, lowest)), *values[name][2:]]
    try:
        _check_combinations(study, split, values)
    except UsageError as error:
        for name, bounds in ranges.items():
            check = functools.partial(_check_combinations, study, split, values, name)
            if choices := choice_of(bounds, check):
                raise UsageError(f"{error}, or give {name}: {choices}") from error
        raise


def _check_combinations(
    study: Study, split: Space, values: Mapping[str, Sequence[Value]], name: str = "", value: Value = None
) -> None:
    """Raises UsageError for the first combination that the study cannot have; of those in which `name` is `value`."""
    values = {**values, name: [value]} if name else values
    combinations = _combinations(split, values, {})
    for combination in itertools.islice(combinations, MAX_COMBINATIONS):
        with_training(study, combination)
    if next(combinations, None) is not None:  # too many to check them all: each value in one of them
        for key, several in values.items():
            for each in several:
                with_training(study, next(_combinations(split, {**values, key: [each]}, {}), {}))


def _combinations(
    split: Space, values: Mapping[str, Sequence[Value]], chosen: dict[str, Value]
) -> Iterator[dict[str, Value]]:
    """The combinations that begin with the chosen values and that a setting may have."""
    if len(chosen) == len(values):
        yield chosen
        return
    open_names = values.keys() - chosen
    name = next(
        name
        for name in values
        if name in open_names and getattr(split.conditions.get(name), "name", "") not in open_names
    )
    for value in values[name]:
        if _is_possible(split, name, extended := {**chosen, name: value}):
            yield from _combinations(split, values, extended)


def _is_possible(split: Space, name: str, combination: Mapping[str, Value]) -> bool:
    """Whether a hyperparameter may have its value next to the others."""
    condition = split.conditions.get(name)
    if condition is None or condition.name not in combination:
        return True
    value = combination[name]
    return split.tuned[name].contains(value) if condition.applies(combination) else value == condition.otherwise


def choice_of(bounds: Range, check: Callable[[int], None]) -> str:
    """A choice of whole numbers for which `check` raises no UsageError, preferably powers of two; "" if there is none.

    Args:
        bounds: the range of whole numbers that they are from.
    """

    def passes(value: Any) -> bool:
        try:
            check(value)
        except UsageError:
            return False
        return True

    powers = list(filter(passes, bounds.powers()))
    numbers = powers if len(powers) > 1 else list(filter(passes, bounds.samples(MAX_SHOWN**2)))[:MAX_SHOWN]
    return f"choice({', '.join(map(str, numbers))})" if len(numbers) > 1 else ""


def _check_whole(configuration: Configuration, name: str, bounds: Range | Choice | None) -> None:
    if not isinstance(bounds, Range) or bounds.integer:
        return
    powers = bounds.powers()
    choices = f"choice({', '.join(map(str, powers))}) or " if len(powers) > 1 else ""
    raise UsageError(
        f"configuration {configuration.name!r}: {name} is tuned by a {'log' if bounds.log else 'linear'}_range, whose "
        f"values are seldom whole numbers; give {choices}{bounds.as_integers()}"
    )


def _fields() -> list[str]:
    return [field.name for field in dataclasses.fields(Study) if field.name in FIELDS]


def _part(study: Study, part: str) -> Any:
    if part == "schedule" and study.schedule is None:
        return Constant()
    return getattr(study, part)


def _with_arguments(part: str, function: Any, given: Mapping[str, Value]) -> Any:
    """A dataclass with other fields, or a function with some of its arguments."""
    known = _arguments(part, function)
    for name in given:
        if known is not None and name not in known:
            label = getattr(function, "__name__", type(function).__name__)
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(
                f"the {part} {label} has no argument {name!r} for {part}.{name}; {has}{did_you_mean(name, known)}"
            )
    if dataclasses.is_dataclass(function) and not isinstance(function, type):
        return dataclasses.replace(function, **given)
    return functools.partial(function, **given)


def _arguments(part: str, function: Any) -> list[str] | None:
    """The names of the arguments that can be set; None where any can (**kwargs)."""
    if dataclasses.is_dataclass(function) and not isinstance(function, type):
        return [field.name for field in dataclasses.fields(function) if field.init]
    parameters = _parameters(function)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in _signature(function).values()):
        return None
    given = list(parameters)[: len(STEP_ARGUMENTS)] if part == "schedule" else []
    return [name for name in parameters if name not in given]


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a function that can be given by name."""
    if dataclasses.is_dataclass(function) and not isinstance(function, type):
        return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in _signature(function).items() if parameter.kind in named}


def _signature(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return {}
