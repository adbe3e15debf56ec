"""The optimizer and the regularizer of a configuration, and the search space of all its hyperparameters."""

import dataclasses
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hpo.errors import UsageError, did_you_mean, is_number
from hpo.optim.optimizers import OPTIMIZERS, Optimizer
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.torch_optimizer import TorchOptimizer, from_torch_hint
from hpo.search_space import UNSET, Choice, Entry, Range, When
from hpo.space import describe_bounds
from hpo.study.study import Configuration, Study
from hpo.study.training_space import TRAINING_NAMES, full_names, is_training, known_names
from hpo.study.validation import first_lookalikes


def regularizer_of(configuration: Configuration) -> Regularizer:
    """The configuration's regularizer, looked up by name where a name is given."""
    return _component(configuration, "regularizer", REGULARIZERS, Regularizer)


def optimizer_of(configuration: Configuration) -> Optimizer | TorchOptimizer:
    """The configuration's optimizer, looked up by name where a name is given."""
    if isinstance(configuration.optimizer, TorchOptimizer):
        return configuration.optimizer
    return _component(configuration, "optimizer", OPTIMIZERS, Optimizer)


def explanations(study: Study) -> dict[str, str]:
    """What each configuration's regularizer computes, as its author's documentation says: configuration → one line.

    These are the first two paragraphs of its file, or of the user's function, without a section such as "Args:".
    Configurations without a regularizer, or whose regularizer has none, are left out.
    """
    words = {}
    for configuration in study.configurations:
        regularizer = regularizer_of(configuration)
        module = sys.modules.get(regularizer.grads.__module__)
        is_built_in = REGULARIZERS.get(regularizer.name) is regularizer or regularizer.name.startswith("gvr(")
        text = inspect.getdoc(module if is_built_in else regularizer.grads) or ""
        first, _, rest = text.partition("\n\n")
        second = [] if re.match(r"\w+:\n", rest) else rest.partition("\n\n")[0].splitlines()
        is_formula = rest.startswith(" ")  # a line each, or several with spaces between them
        added = ("; " if is_formula else " ").join(re.sub(" {2,}", "; ", line.strip()) for line in second)
        if regularizer.name != "none" and first:
            first = f"{first.rstrip('.:')}:" if is_formula else first
            words[configuration.name] = " ".join([*first.split(), added]).strip()
    return words


def parts_of(configuration: Configuration) -> list[Any]:
    """The parts of a configuration that have hyperparameters."""
    average = [configuration.average] if configuration.average is not None else []
    return [optimizer_of(configuration), regularizer_of(configuration), *average]


def static_names(configuration: Configuration) -> frozenset[str]:
    """The hyperparameters whose values a population shares: they may change shapes or the flow of control."""
    tensors = {name for part in parts_of(configuration) for name in part.hyperparameters if name not in part.static}
    return frozenset(full_space(configuration).keys() - tensors)


def full_space(configuration: Configuration, training: Sequence[str] = TRAINING_NAMES) -> dict[str, Entry]:
    """Every hyperparameter of the configuration with its range, choice or fixed value, defaults filled in.

    It has those of the optimizer and the regularizer, and the training hyperparameters that the configuration names.

    Args:
        training: the training hyperparameters that an error lists; those of the study, where it is known.

    Raises:
        UsageError: the optimizer and the regularizer have hyperparameters that could be confused, or the space has an
            entry that does not fit.
    """
    optimizer, regularizer = optimizer_of(configuration), regularizer_of(configuration)
    parts = parts_of(configuration)
    defaults = {name: entry for part in parts for name, entry in part.hyperparameters.items()}
    owner = f"configuration {configuration.name!r}"
    shared = set(optimizer.hyperparameters) & set(regularizer.hyperparameters)
    if len(defaults) < sum(len(part.hyperparameters) for part in parts) and not shared:
        raise UsageError(f"{owner}: the average has a hyperparameter of the same name as another part; rename that")
    if shared:
        raise UsageError(
            f"{owner}: optimizer {optimizer.name!r} and regularizer {regularizer.name!r} both have {min(shared)!r}; "
            "rename the regularizer's"
        )
    try:
        given = full_names(configuration.space, defaults)
    except UsageError as error:
        raise UsageError(f"{owner}: {error}") from error
    for name in given:
        if name not in defaults and not is_training(name):
            raise UsageError(
                f"{owner}: space names {name!r}, which neither optimizer {optimizer.name!r} nor regularizer "
                f"{regularizer.name!r} has; {known_names(name, [*defaults, *training])}"
            )
    entries: dict[str, Any] = {**defaults, **given}
    lookalikes = first_lookalikes(entries, lambda name: name.replace("_", " ").replace(".", " "))
    if lookalikes:
        raise UsageError(
            f"{owner}: hyperparameters {lookalikes[0]!r} and {lookalikes[1]!r} look alike in reports, which show no "
            "'_' and no '.'; rename one of them"
        )
    static = {*(name for part in parts for name in part.static), *(entries.keys() - defaults.keys())}
    try:
        return {name: _resolve(name, entry, entries, defaults, name in static) for name, entry in entries.items()}
    except UsageError as error:
        raise UsageError(f"{owner}: {error}") from error


def _resolve(name: str, entry: Any, entries: Mapping[str, Any], defaults: Mapping[str, Any], static: bool) -> Entry:
    """An entry of the space as a definition has it: a condition that is decided by a fixed value is replaced."""
    default = defaults.get(name)
    if isinstance(entry, When):
        entry = _resolve_condition(name, entry, entries, default)
    bounds = entry.entry if isinstance(entry, When) else entry
    values = bounds.values if isinstance(bounds, Choice) else () if isinstance(bounds, Range) else (bounds,)
    if not static:
        _check_numbers(name, (*values, entry.otherwise) if isinstance(entry, When) else values, default)
    if isinstance(bounds, Range) and bounds.off is None and isinstance(default, Range):
        bounds = dataclasses.replace(bounds, off=default.off)
    if isinstance(entry, When):
        return dataclasses.replace(entry, entry=bounds)
    return bounds if static or isinstance(bounds, Range | Choice | bool) else float(bounds)


def _check_numbers(name: str, values: Sequence[Any], default: Any) -> None:
    """Raises UsageError unless these can be values of a tensor: numbers, or True and False where the default is one."""
    truths = isinstance(default, bool) or (isinstance(default, Choice) and isinstance(default.values[0], bool))
    kind = "True or False" if truths else "a number"
    for value in values:
        if not (isinstance(value, bool) if truths else is_number(value)):
            raise UsageError(
                f"{name} is {value!r}; give {kind}, or name {name!r} in static=(…) "
                "of the optimizer or regularizer, which then gets it as it is"
            )


def _resolve_condition(name: str, entry: When, entries: Mapping[str, Any], default: Any) -> Entry:
    """The condition with its value elsewhere; the range or that value where another fixed value decides it."""
    [depends_on] = full_names({entry.name: None}, entries)
    entry = dataclasses.replace(entry, name=depends_on)
    other = entries.get(entry.name, UNSET)
    if other is UNSET or isinstance(other, When) or (isinstance(other, Range) and not other.integer):
        tuned = [each for each, bounds in entries.items() if isinstance(bounds, Choice)]
        raise UsageError(
            f"{name} depends on {entry.name!r}; name a hyperparameter of the same space that is tuned by choice or "
            f"integers{did_you_mean(entry.name, tuned)}"
        )
    otherwise = entry.otherwise
    if otherwise is UNSET:
        if default is None or isinstance(default, Range | Choice | When):
            raise UsageError(f"{name} has no value where {entry.name} is another one; give when(…, otherwise=…)")
        otherwise = default
    if not isinstance(other, Range | Choice):
        return entry.entry if other in entry.values else otherwise
    for value in entry.values:
        if not other.contains(value):
            raise UsageError(f"{name} depends on {entry.name} = {value!r}, which is outside {describe_bounds(other)}")
    return dataclasses.replace(entry, otherwise=otherwise)


def _component(configuration: Configuration, field: str, registry: Mapping[str, Any], kind: type) -> Any:
    value = getattr(configuration, field)
    if isinstance(value, kind):
        return value
    if isinstance(value, str) and value in registry:
        return registry[value]
    hint = did_you_mean(value, registry) if isinstance(value, str) else ""
    hint = (from_torch_hint(value) if field == "optimizer" else "") or hint
    raise UsageError(
        f"configuration {configuration.name!r}: {field} is {value!r}; give an hpo.{kind.__name__} or one of "
        f"{', '.join(registry)}{hint}"
    )
