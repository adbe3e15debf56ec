"""The instances of a `torch.optim.Optimizer` for one model: how they are built and checked."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.optim.parameter_groups import ParameterGroup
from hpo.optim.torch_arguments import RATE, TORCH_RATE
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.tree import Tree
from hpo.user_code.generators import seeded
from hpo.user_code.messages import warn_once
from hpo.user_code.ownership import is_user_code

Setting = Mapping[str, Any]
Closure = Callable[[], Any]  # returns a loss, a tensor []
TRIED_GRADIENT, TRIED_LOSS, TRIED_STEPS = 1e-3, 0.7, 2
ADVICE = {  # what an error of the user's code contains → what to write
    "'list' object has no attribute 'parameters'": "it gets a list of (name, parameter) pairs, not the model",
    "'list' object has no attribute 'named_parameters'": "it gets a list of (name, parameter) pairs, not the model",
    "leaf Variable that requires grad is being used in an in-place": "decorate its step with @torch.no_grad()",
}


class Builder:
    """Builds the instances of a `TorchOptimizer`.

    Attributes:
        name: the optimizer as messages name it. groups: the parameters, first those without changes.
    """

    def __init__(self, optimizer: TorchOptimizer, groups: Sequence[ParameterGroup]) -> None:
        self.name, self.optimizer, self.groups = f"optimizer {optimizer.name!r}", optimizer, groups

    def build(self, parameters: Mapping[str, nn.Parameter], setting: Setting) -> list[torch.optim.Optimizer]:
        """New instances for the parameters of one model.

        Raises:
            UsageError: they cannot be built, or a parameter belongs to several.
        """
        groups = [([(name, parameters[name]) for name in each.names], each.values(setting, {})) for each in self.groups]
        with self._explained("cannot be built for these parameters"):
            built = self.optimizer.build(groups)
        self._check(built, parameters)
        return built

    def _check(self, built: Sequence[Any], parameters: Mapping[str, nn.Parameter]) -> None:
        for optimizer in built:
            if not isinstance(optimizer, torch.optim.Optimizer):
                kind = type(optimizer).__name__
                raise UsageError(f"{self.name} returns a {kind}; return a torch.optim.Optimizer or a list of them")
            if inspect.unwrap(type(optimizer).step) is inspect.unwrap(torch.optim.Optimizer.step):
                raise UsageError(
                    f"{self.name}: {type(optimizer).__name__} has no step; define step(self, closure=None)"
                )
        self._check_rate(built[0])
        for name in {name for group in self.groups for name in group.changes}:
            if (argument := self.optimizer.argument_of(name)) not in built[0].defaults:
                raise UsageError(f"{self.name} has no {argument!r} in its parameter groups; leave it out of groups")
        held = _held(built)
        names = {id(parameter): name for name, parameter in parameters.items()}
        for parameter in held:
            if id(parameter) not in names:
                raise UsageError(f"{self.name} has a parameter that it was not given; pass on those of the model")
            if sum(parameter is other for other in held) > 1:
                name = names[id(parameter)]
                raise UsageError(f"{self.name} has {name!r} in several optimizers or groups; give it to one of them")
        if left_out := untrained(built, parameters):
            warn_once(f"{self.name} does not train {', '.join(left_out)}: no optimizer has these parameters")

    def _check_rate(self, optimizer: torch.optim.Optimizer) -> None:
        """A class with **kwargs may ignore the learning rate, or may have one that was not given."""
        if not isinstance(self.optimizer.source, type):
            return
        given, has_one = (
            RATE in self.optimizer.hyperparameters,
            all(TORCH_RATE in group for group in optimizer.param_groups),
        )
        if has_one and not given:
            raise UsageError(f"{self.name} has a learning rate; give learning_rate=... in from_torch as well")
        if given and not has_one:
            raise UsageError(f"{self.name} has no learning rate; leave learning_rate out of from_torch")

    def takes_closure(self, row: Tree, setting: Setting) -> list[bool]:
        """Whether the steps of each instance need a closure, or compute something else with one.

        This is tried on copies of a model's parameters. Most steps that take a closure only return its loss.

        Raises:
            UsageError: a step of a library's optimizer fails with a closure as well.
        """
        with seeded(0):
            kinds = [type(optimizer) for optimizer in self.build_tried(row, setting)[0]]
        return [self._needs_closure(row, setting, index, kind) for index, kind in enumerate(kinds)]

    def _needs_closure(self, row: Tree, setting: Setting, index: int, kind: type[torch.optim.Optimizer]) -> bool:
        try:
            without = self._try_steps(row, setting, index, gives_closure=False)
        except Exception as error:  # an optimizer may say in any way that it needs a closure
            try:
                self._try_steps(row, setting, index, gives_closure=True)
            except Exception as other_error:
                needed = inspect.signature(kind.step).parameters.get("closure")
                with self._explained("cannot make a step"):
                    raise other_error if needed and needed.default is needed.empty else error from None
            return True
        if kind.__module__.startswith("torch.optim.") or "closure" not in inspect.signature(kind.step).parameters:
            return False
        try:
            with_closure = self._try_steps(row, setting, index, gives_closure=True)
        except Exception:  # it can do without
            return False
        pairs = zip(without, with_closure, strict=True)
        return not all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in pairs)

    def _try_steps(self, row: Tree, setting: Setting, index: int, gives_closure: bool) -> list[Tensor]:
        """The parameters of one instance after a few steps."""
        with seeded(0):
            built, closure = self.build_tried(row, setting)
            for _ in range(TRIED_STEPS):
                closure()
                built[index].step(closure) if gives_closure else built[index].step()
        return [parameter.detach() for parameter in _held(built[index : index + 1])]

    def build_tried(self, row: Tree, setting: Setting) -> tuple[list[torch.optim.Optimizer], Closure]:
        """Instances for copies of the parameters, which have gradients, to try a step; and a closure for them.

        Where a step has moved the parameters, the closure gives other gradients.
        """
        parameters = {name: nn.Parameter(leaf.clone()) for name, leaf in row.items()}
        built = self.build(parameters, setting)

        def closure() -> Tensor:
            for name, parameter in parameters.items():
                parameter.grad = parameter.detach() - row[name] + TRIED_GRADIENT
            return parameter.new_full((), TRIED_LOSS)

        closure()
        for optimizer in built:
            switch(optimizer, "train")
        return built, closure

    @contextmanager
    def _explained(self, fails: str) -> Iterator[None]:
        """Errors of a library's optimizer in one sentence; those of the user's own keep their traceback."""
        try:
            yield
        except Exception as error:
            if advice := next((each for words, each in ADVICE.items() if words in str(error)), None):
                raise UsageError(f"{self.name} {fails}: {advice}") from error
            if is_user_code(self.optimizer.source) or isinstance(error, UsageError):
                raise
            text = (str(error).splitlines() or [""])[0].rstrip(".")
            raise UsageError(
                f"{self.name} {fails} ({type(error).__name__}: {text}); give other arguments, or a function "
                "(named_parameters, **hyperparameters) that returns optimizers for different parameters"
            ) from error


def switch(optimizer: torch.optim.Optimizer, mode: str) -> None:
    """Calls an optimizer's `train()` or `eval()` where it has them."""
    method = getattr(optimizer, mode, None)
    if callable(method):
        method()


def untrained(optimizers: Sequence[torch.optim.Optimizer], parameters: Mapping[str, nn.Parameter]) -> list[str]:
    """The names of a model's parameters that none of its optimizers has."""
    held = {id(parameter) for parameter in _held(optimizers)}
    return [name for name, parameter in parameters.items() if id(parameter) not in held]


def _held(optimizers: Sequence[torch.optim.Optimizer]) -> list[nn.Parameter]:
    return [each for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]]
