"""The arguments of an optimizer written for PyTorch: hyperparameters under hpo's names, and constants."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hpo.errors import UsageError, did_you_mean, is_number
from hpo.search_space import UNSET, Choice, Range, When

RATE, TORCH_RATE = "learning_rate", "lr"


class Tunable(NamedTuple):
    """An argument that is a hyperparameter; `whole` if whole numbers are passed on as int."""

    name: str
    whole: bool

    def value(self, values: Mapping[str, float]) -> float:
        value = values[self.name]
        return int(value) if isinstance(value, float) and self.whole and value.is_integer() else value


def read_arguments(
    code: str, optimizer: Callable[..., Any], arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The given arguments, and those whose default is a number, as `resolve` takes them; and their hyperparameters.

    Raises:
        UsageError: the optimizer does not take these arguments.
    """
    defaults, takes_others = _signature(code, optimizer)
    given = _with_torch_names(code, arguments, defaults)
    for argument in [name for name in given if name not in defaults]:
        known = ", ".join(_hpo_name(name) for name in defaults)
        if (hint := did_you_mean(argument, defaults)) or not takes_others:
            raise UsageError(f"{code}: there is no argument {argument!r} among {known}{hint}")
        if _may_be_ignored(argument, given, optimizer):
            raise UsageError(
                f"{code} accepts {argument!r} without naming it, so that it may have no effect; leave it out (it names "
                f"{known}), or write a function with this argument that returns the optimizer"
            )
    hyperparameters: dict[str, Any] = {}
    specified: dict[str, Any] = {}
    for argument in dict.fromkeys([*given, *defaults]):
        default = defaults.get(argument)
        value = given.get(argument, default)
        if argument in given or _is_numeric(value):
            specified[argument] = _specify(code, argument, value, default, hyperparameters)
    return specified, hyperparameters


def _signature(code: str, optimizer: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """The arguments after the parameters with their defaults, and whether others are accepted."""
    try:
        _, *others = inspect.signature(optimizer).parameters.values()
    except (TypeError, ValueError) as error:
        raise UsageError(f"{code} does not take parameters as its first argument; wrap it in a function") from error
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    defaults = {each.name: each.default for each in others if each.kind not in variadic}
    return defaults, any(each.kind is inspect.Parameter.VAR_KEYWORD for each in others)


def _may_be_ignored(argument: str, given: Mapping[str, Any], optimizer: Callable[..., Any]) -> bool:
    """Whether a class takes a hyperparameter only by its `**kwargs`, and no class that it extends or is given names it.

    Most optimizers of the package pytorch_optimizer take any name and ignore those they do not know. Their learning
    rate is checked when the optimizer is built.
    """
    if not isinstance(optimizer, type) or argument in (RATE, TORCH_RATE):
        return False
    given_classes = [value for value in given.values() if isinstance(value, type)]
    classes = [*optimizer.__mro__, *(base for each in given_classes for base in each.__mro__)]
    names = {name for each in classes for name in _parameter_names(each)}
    value = given[argument]
    entries = value if isinstance(value, list | tuple) else (value,)
    return argument not in names and any(map(_is_tunable, entries))


def _parameter_names(source: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(source).parameters)
    except (TypeError, ValueError):  # a builtin without a signature
        return set()


def _with_torch_names(code: str, arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under the names that the optimizer has for them."""
    own = RATE if RATE in defaults else TORCH_RATE
    if RATE in arguments and TORCH_RATE in arguments:
        raise UsageError(f"{code} got both {RATE} and {TORCH_RATE}, which are the same; give one of them")
    given = {own if name in (RATE, TORCH_RATE) else name: value for name, value in arguments.items()}
    if own not in given and own in defaults:
        raise UsageError(f"{code}: give its {RATE}, a range or a number, such as {RATE}=log_range(1e-5, 1e-2)")
    missing = [name for name, default in defaults.items() if default is inspect.Parameter.empty and name not in given]
    if missing:
        raise UsageError(f"{code}: {missing[0]!r} has no default; give it a value")
    return given


def _specify(code: str, argument: str, value: Any, default: Any, hyperparameters: dict[str, Any]) -> Any:
    """How an argument is built; adds its hyperparameters."""
    if _is_tunable(value) and isinstance(default, list | tuple):
        example = ", ".join(["…", *map(repr, default[1:])])
        raise UsageError(
            f"{code}: {argument} has {len(default)} entries; give each, a range or a number: {argument}=({example})"
        )
    if _is_tunable(value):
        name = _hpo_name(argument)
        return _add(code, name, value, _is_whole(value) or _is_whole(default), hyperparameters)
    if isinstance(value, list | tuple) and any(map(_is_tunable, value)):
        entries = default if isinstance(default, list | tuple) and len(default) == len(value) else value
        return tuple(
            _add(code, f"{_singular(argument)}{index}", entry, _is_whole(entry) or _is_whole(like), hyperparameters)
            if _is_tunable(entry)
            else entry
            for index, (entry, like) in enumerate(zip(value, entries, strict=True), 1)
        )
    return value


def _add(code: str, name: str, value: Any, whole: bool, hyperparameters: dict[str, Any]) -> Tunable:
    if name in hyperparameters:
        raise UsageError(f"{code}: two of its arguments would be the hyperparameter {name!r}; wrap it in a function")
    hyperparameters[name] = value
    return Tunable(name, whole)


def _is_tunable(value: Any) -> bool:
    return isinstance(value, Range | Choice | When) or is_number(value)


def _is_numeric(value: Any) -> bool:
    """Whether a default consists of numbers only."""
    return all(map(_is_tunable, value)) if isinstance(value, tuple) and value else _is_tunable(value)


def _is_whole(value: Any) -> bool:
    """Whether an argument is an int, or all that it is tuned over are."""
    if isinstance(value, When):
        value = value.entry
    if isinstance(value, Range):
        return value.integer
    values = value.values if isinstance(value, Choice) else (value,)
    return all(is_number(each) and isinstance(each, int) for each in values)


def _singular(argument: str) -> str:
    return argument[:-1] if argument.endswith("s") and len(argument) > 3 else argument


def _hpo_name(argument: str) -> str:
    return RATE if argument == TORCH_RATE else argument


def fits_tensor(entry: Any) -> bool:
    """Whether all values of a hyperparameter are numbers, or all True or False."""
    if isinstance(entry, When):
        return fits_tensor(entry.entry) and (entry.otherwise is UNSET or is_number(entry.otherwise))
    values = entry.values if isinstance(entry, Choice) else ()
    return all(map(is_number, values)) or all(isinstance(value, bool) for value in values)


def resolve(argument: Any, values: Mapping[str, float]) -> Any:
    if isinstance(argument, Tunable):
        return argument.value(values)
    return tuple(resolve(entry, values) for entry in argument) if type(argument) is tuple else argument


def hyperparameters_in(argument: Any) -> list[str]:
    """The names of an argument's hyperparameters."""
    entries = argument if type(argument) is tuple else (argument,)
    return [entry.name for entry in entries if isinstance(entry, Tunable)]
