"""Optimizers written for PyTorch: how an instance for one model is built from hyperparameters."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from hpo.errors import UsageError
from hpo.optim.torch_arguments import RATE, fits_tensor, hyperparameters_in, read_arguments, resolve
from hpo.search_space import Entry
from hpo.user_code.ownership import is_user_code

NamedParameters = Sequence[tuple[str, nn.Parameter]]
Group = tuple[NamedParameters, Mapping[str, float]]  # parameters, and their values of all hyperparameters


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
        return {name: value for name, value in self.arguments.items() if not hyperparameters_in(value)}

    def code(self) -> dict[str, Any]:
        """As `Optimizer.code`."""
        return {"": self.source} | {f".{name}": value for name, value in self.constants.items()}

    def argument_of(self, hyperparameter: str) -> str:
        """The argument that a hyperparameter belongs to."""
        return next(name for name, value in self.arguments.items() if hyperparameter in hyperparameters_in(value))

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
        return {name: resolve(argument, values) for name, argument in self.arguments.items()}


def from_torch(optimizer: Callable[..., Any], **arguments: Any) -> TorchOptimizer:
    """An optimizer written for PyTorch, for `Configuration(optimizer=...)`: one instance per model.

        from_torch(Lion, learning_rate=log_range(1e-5, 1e-2), betas=(0.9, 0.99))

    Numbers and ranges become hyperparameters under their names, so that `space` may change them: `lr` is
    `learning_rate`, and `betas` are `beta1` and `beta2`. So do the numbers that are the defaults of other arguments.
    `choice` and `when` are tuned as well; of a pair, each entry: `betas=(linear_range(0.8, 0.95), 0.999)`. An argument
    that is not named has the optimizer's own default and is not tuned, such as the `weight_decay` of
    `torch.optim.AdamW`, 0.01, which the built-in "adamw" tunes. Anything else (texts, True and False, classes,
    functions) is passed on as it is.

    Gradients are those of the regularizer, for all models at once; each instance then updates its own model, so that
    its step runs once per model. `train()` and `eval()` are called where it has them. A step that needs a closure, or
    whose first updates differ with one, gets one that computes the regularizer's gradient again, for one model at a
    time, and returns its task loss.

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
    arguments, hyperparameters = read_arguments(f"from_torch({name})", optimizer, arguments)
    hyperparameters = {each: hyperparameters[each] for each in sorted(hyperparameters, key=lambda each: each != RATE)}
    static = tuple(each for each, entry in hyperparameters.items() if not fits_tensor(entry))
    return TorchOptimizer(name, optimizer, arguments, hyperparameters, static)


def from_torch_hint(value: Any) -> str:
    """How to use an optimizer written for PyTorch: a class, a function, an instance or a name in torch.optim."""
    name = getattr(value, "__name__", "") if callable(value) else type(value).__name__
    if isinstance(value, str):
        name = next((each for each in torch.optim.__all__ if each.casefold() == value.casefold()), "")
    elif not callable(value) and not isinstance(value, torch.optim.Optimizer):
        name = ""
    name = f"torch.optim.{name}" if name in torch.optim.__all__ else name
    return f"; write hpo.from_torch({name}, learning_rate=log_range(1e-5, 1e-2))" if name else ""


def _changed(arguments: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value != base[name]}
