"""Optimizers written for PyTorch: how an instance for one model is built from hyperparameters."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from hpo.errors import UsageError, did_you_mean
from hpo.search_space import UNSET, Choice, Entry, Range, When, is_number
from hpo.user_code.ownership import is_user_code

RATE, TORCH_RATE = "learning_rate", "lr"
NamedParameters = Sequence[tuple[str, nn.Parameter]]
Group = tuple[NamedParameters, Mapping[str, float]]  # parameters, and their values of all hyperparameters


class _Tunable(NamedTuple):
    """An argument that is a hyperparameter; `whole` if whole numbers are passed on as int."""

    name: str
    whole: bool

    def value(self, values: Mapping[str, float]) -> float:
        value = values[self.name]
        return int(value) if isinstance(value, float) and self.whole and value.is_integer() else value


class TorchOptimizer(NamedTuple):
    """A `torch.optim.Optimizer` for each model of a population; made by `from_torch`.

    Attributes:
        name: its name in messages and listings. source: the class, or the function that builds optimizers.
        arguments: the arguments of `source` by name: hyperparameters, tuples with some, and constants.
        hyperparameters, static: as in `Optimizer`; static are those with other values than numbers, True and False.
    """

    name: str
    source: Callable[..., Any]
    arguments: Mapping[str, Any]
    hyperparameters: Mapping[str, Entry]
    static: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its name, with the package that it comes from unless it is the user's own."""
        module = str(getattr(self.source, "__module__", ""))
        package = "torch.optim" if module.startswith("torch.optim") else module.partition(".")[0]
        return self.name if is_user_code(self.source) else f"{package}.{self.name}"

    @property
    def constants(self) -> dict[str, Any]:
        """The arguments that contain no hyperparameter."""
        return {name: value for name, value in self.arguments.items() if not _hyperparameters(value)}

    def code(self) -> dict[str, Any]:
        """As `Optimizer.code`."""
        return {"": self.source} | {f".{name}": value for name, value in self.constants.items()}

    def argument_of(self, hyperparameter: str) -> str:
        """The argument that a hyperparameter belongs to."""
        return next(name for name, value in self.arguments.items() if hyperparameter in _hyperparameters(value))

    def build(self, groups: Sequence[Group]) -> list[torch.optim.Optimizer]:
        """New instances for the parameters of one model.

        Args:
            groups: the parameters with the values of their hyperparameters; the first group has those from which the
                others differ.
        """
        base = self._call_arguments(groups[0][1])
        if not isinstance(self.source, type):
            built = self.source([pair for named, _ in groups for pair in named], **base)
            return list(built) if isinstance(built, list | tuple) else [built]
        parameters: Any = [parameter for _, parameter in groups[0][0]]
        if len(groups) > 1:
            changed = [_changed(self._call_arguments(values), base) for _, values in groups]
            pairs = zip(groups, changed, strict=True)
            parameters = [{"params": [each for _, each in named], **new} for (named, _), new in pairs if named]
        return [self.source(parameters, **base, **self._implementation())]

    def _implementation(self) -> dict[str, bool]:
        """For PyTorch's own optimizers, the kernel that updates all parameters in one call."""
        chosen = {"foreach", "fused", "differentiable", "capturable"} & self.arguments.keys()
        has_kernel = (
            self.source.__module__.startswith("torch.optim.") and "fused" in inspect.signature(self.source).parameters
        )
        return {"fused": True} if has_kernel and not chosen else {}

    def _call_arguments(self, values: Mapping[str, float]) -> dict[str, Any]:
        return {name: _resolve(argument, values) for name, argument in self.arguments.items()}


def from_torch(optimizer: Callable[..., Any], **arguments: Any) -> TorchOptimizer:
    """An optimizer written for PyTorch, for `Configuration(optimizer=...)`: one instance per model.

        from_torch(Lion, learning_rate=log_range(1e-5, 1e-2), betas=(0.9, 0.99))

    Numbers and ranges become hyperparameters under their names, so that `space` may change them: `lr` is
    `learning_rate`, and `betas` are `beta1` and `beta2`. So do the numbers that are the defaults of other arguments.
    Anything else (texts, True and False, classes, functions) is passed on as it is.

    Gradients are those of the regularizer, for all models at once; each instance then updates its own model, so that
    its step runs once per model. `train()` and `eval()` are called where it has them. A step that needs a closure gets
    one that computes the regularizer's gradient again, for one model at a time, and returns its task loss.

    Args:
        optimizer: a subclass of `torch.optim.Optimizer`, or a function (named_parameters, **arguments) that returns an
            optimizer or a list of them, such as Muon for matrices and AdamW for the rest. The study's schedule
            multiplies the learning rate of every parameter group.

    Raises:
        UsageError: the optimizer is neither, or does not take these arguments.
    """
    if isinstance(optimizer, functools.partial) and not optimizer.args:
        return from_torch(optimizer.func, **{**optimizer.keywords, **arguments})
    name = getattr(optimizer, "__name__", type(optimizer).__name__)
    is_other_class = isinstance(optimizer, type) and not issubclass(optimizer, torch.optim.Optimizer)
    if not callable(optimizer) or is_other_class:
        got = optimizer.__name__ if is_other_class else f"an object of the class {type(optimizer).__name__}"
        raise UsageError(
            f"from_torch got {got}; give a subclass of torch.optim.Optimizer, or a function "
            "(named_parameters, **hyperparameters) that returns an optimizer or a list of them"
        )
    code = f"from_torch({name})"
    defaults, takes_others = _signature(code, optimizer)
    given = _with_torch_names(code, arguments, defaults)
    for argument in given:
        hint = did_you_mean(argument, defaults)
        if argument not in defaults and (hint or not takes_others):
            known = ", ".join(_hpo_name(name) for name in defaults)
            raise UsageError(f"{code}: there is no argument {argument!r} among {known}{hint}")
    hyperparameters: dict[str, Any] = {}
    specified: dict[str, Any] = {}
    for argument in dict.fromkeys([*given, *defaults]):
        default = defaults.get(argument)
        value = given.get(argument, default)
        if argument in given or _is_numeric(value):
            specified[argument] = _specify(code, argument, value, default, hyperparameters)
    hyperparameters = {each: hyperparameters[each] for each in sorted(hyperparameters, key=lambda each: each != RATE)}
    static = tuple(each for each, entry in hyperparameters.items() if not _fits_tensor(entry))
    return TorchOptimizer(name, optimizer, specified, hyperparameters, static)


def _signature(code: str, optimizer: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """The arguments after the parameters with their defaults, and whether others are accepted."""
    try:
        _, *others = inspect.signature(optimizer).parameters.values()
    except (TypeError, ValueError) as error:
        raise UsageError(f"{code} does not take parameters as its first argument; wrap it in a function") from error
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    defaults = {each.name: each.default for each in others if each.kind not in variadic}
    return defaults, any(each.kind is inspect.Parameter.VAR_KEYWORD for each in others)


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


def _add(code: str, name: str, value: Any, whole: bool, hyperparameters: dict[str, Any]) -> _Tunable:
    if name in hyperparameters:
        raise UsageError(f"{code}: two of its arguments would be the hyperparameter {name!r}; wrap it in a function")
    hyperparameters[name] = value
    return _Tunable(name, whole)


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


def _fits_tensor(entry: Any) -> bool:
    """Whether all values of a hyperparameter are numbers, or all True or False."""
    if isinstance(entry, When):
        return _fits_tensor(entry.entry) and (entry.otherwise is UNSET or is_number(entry.otherwise))
    values = entry.values if isinstance(entry, Choice) else ()
    return all(map(is_number, values)) or all(isinstance(value, bool) for value in values)


def _resolve(argument: Any, values: Mapping[str, float]) -> Any:
    if isinstance(argument, _Tunable):
        return argument.value(values)
    return tuple(_resolve(entry, values) for entry in argument) if type(argument) is tuple else argument


def _hyperparameters(argument: Any) -> list[str]:
    """The names of an argument's hyperparameters."""
    entries = argument if type(argument) is tuple else (argument,)
    return [entry.name for entry in entries if isinstance(entry, _Tunable)]


def _changed(arguments: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value != base[name]}
