"""What a study's model function builds: seeded, the same for the same seed, and different only in its tensors."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from hpo.errors import UsageError
from hpo.random import stream, training_names
from hpo.training.model_checks import check_modules, check_numbers
from hpo.training.plain_calls import check_plain_calls
from hpo.user_code.calls import equal_values
from hpo.user_code.generators import seeded
from hpo.user_code.messages import warn_once
from hpo.user_code.python_state import state_digest
from hpo.user_code.reachable import reachable

# Seeds that a model function is tried with: two that are the same, and others, as many as are built in no time.
TRIED = (0, 0, 1, 2, 3)
MOST_TRIED = 8  # model functions that are remembered, each with the inputs that it was tried on
_tried: list[tuple[Callable[[], nn.Module], weakref.ref[Tensor]]] = []
LARGE = 1_000_000  # parameters; above it one other seed is enough


def build(model: Callable[[], nn.Module], seed: int, salt: int = 0) -> nn.Module:
    """The network as a seed initialises it, whichever of Python's, numpy's and PyTorch's generators it draws from."""
    with seeded(stream(seed, *training_names(salt), "initial weights").initial_seed()):
        return model()


def check_model(model: Callable[[], nn.Module], inputs: Tensor, *more: Tensor) -> None:
    """Tries a model function on the inputs of a data set before any training, once a process.

    Args:
        inputs: [M, ...]. more: inputs of other parts, such as the test set's.

    Raises:
        UsageError: one seed gives two networks, networks of different seeds differ in more than parameters and buffers,
            or `check_numbers` and `check_plain_calls`.
    """
    if any(model is known and tried_on() is inputs for known, tried_on in _tried):
        return
    modules = [build(model, TRIED[0])]
    check_modules(modules)
    large = sum(parameter.numel() for parameter in modules[0].parameters()) > LARGE
    held = [_held(modules[0])]
    for seed in TRIED[1 : 3 if large else None]:
        modules.append(build(model, seed))
        held.append(_held(modules[-1]))
    if len({id(module) for module in modules}) < len(modules):
        raise UsageError("model returns the same network at every call; make a new one in it, so that seeds differ")
    check_modules(modules)
    first, again, *others = modules
    for path, value in _tensors(first).items():
        if not equal_values(value, _tensors(again)[path]):
            raise UsageError(
                f"model gives other initial values of {path!r} for the same seed; draw them by the global functions of "
                "torch, numpy or random, which hpo seeds, and not by a generator of its own"
            )
    check_same_attributes([first, again], "for the same seed")
    check_same_attributes([first, *others])
    _check_overwritten(*held)
    if all(equal_values(_drawn(first), _drawn(other)) for other in others) and _drawn(first):
        warn_once(
            "the model function gives every seed the same initial weights; if it calls torch.manual_seed, leave that "
            "out, so that results cover the luck of initialisation"
        )
    # On the CPU: a GPU that is asked for a row that there is not serves nobody afterwards.
    check_numbers(others[-1].cpu(), (inputs, *more))
    check_plain_calls(first, again, inputs)
    _tried.append((model, weakref.ref(inputs)))
    del _tried[:-MOST_TRIED]


def _held(module: nn.Module) -> dict[str, Any]:
    """As `_attributes`, just after a network was built: the next may overwrite what its class or a global holds."""
    found = _attributes(module)
    return {path: value.clone() if isinstance(value, Tensor) else value for path, value in found.items()}


def _check_overwritten(first: dict[str, Any], again: dict[str, Any], *others: dict[str, Any]) -> None:
    """Raises UsageError where building a network leaves something elsewhere that follows from its seed.

    What two networks of one seed leave differently, such as how many were built, does not follow from the seed.
    """
    for path in first.keys() & again.keys():
        if equal_values(first[path], again[path]) and any(
            path in other and not equal_values(first[path], other[path]) for other in others
        ):
            raise UsageError(
                f"building a network changes {path.lstrip(': ')!r}, which is none of its own and which all networks "
                "would share; make it a parameter or a buffer (nn.Parameter, register_buffer)"
            )


def _drawn(module: nn.Module) -> dict[str, Tensor]:
    """The parameters that are not constants such as zeros."""
    return {
        name: value
        for name, value in module.named_parameters()
        if value.numel() and (value != value.flatten()[0]).any()
    }


def check_same_attributes(modules: Sequence[nn.Module], when: str = "from seed to seed") -> None:
    """Raises UsageError where networks differ in what is neither a parameter nor a buffer: one stands for all."""
    first = _attributes(modules[0])
    for module in modules[1:]:
        other = _attributes(module)
        for path in (*first, *(path for path in other if path not in first)):
            if path not in first or path not in other or not equal_values(first[path], other[path]):
                raise UsageError(
                    f"the network's {path!r} differs {when} and is neither a parameter nor a buffer; make it one "
                    "(nn.Parameter, register_buffer), and keep layers in an nn.ModuleList"
                )


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Path -> something comparable, for all that a network holds beside its parameters and buffers.

    Left out are weights that PyTorch computes anew before each call, as by pruning or the older form of weight_norm.
    """
    trained = {id(tensor) for tensor in _tensors(module).values()}
    for layer in module.modules():
        for hook in layer._forward_pre_hooks.values():
            if type(hook).__module__.startswith("torch.nn.utils."):
                name = getattr(hook, "name", getattr(hook, "_tensor_name", ""))
                trained.add(id(getattr(layer, name, None)))
    return {
        path.removeprefix("."): value.detach() if isinstance(value, Tensor) else state_digest(value)
        for path, value in reachable({"": module})
        if id(value) not in trained
    }


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
