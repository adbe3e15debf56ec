"""The global random generators of Python, numpy and PyTorch: seeded while user code builds, refused while it runs."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from hpo.dispatch import DispatchMode
from hpo.errors import UsageError

RANDOM_ADVICE = (
    "use nn.Dropout layers in the network, not torch.nn.functional.dropout or the dropout=... of other layers, "
    "objective.random in a regularizer, and elsewhere hpo.random, with the keys that augment gets"
)

VMAP_RANDOM_ERROR = "called random operation while in randomness error mode"  # PyTorch's words


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds all three for the code inside, and restores the caller's states afterwards.

    Args:
        seed: 0 … 2⁶⁴ − 1; numpy takes its lower 32 bits.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            random.seed(seed)
            np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def no_global_draws(code: str) -> Iterator[None]:
    """Around code whose random numbers must follow from hpo's keys: refuses draws from a global generator.

    Args:
        code: the code as messages name it, such as "metric 'rank'".

    Raises:
        UsageError: a generator has moved.
    """
    before = _states()
    yield
    after = _states()
    for name, state in before.items():
        if state != after[name]:
            raise UsageError(
                f"{code} draws random numbers from {name}, which do not follow from the seed; {RANDOM_ADVICE}"
            )


def _states() -> dict[str, Any]:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    states: dict[str, Any] = {
        "Python's random module": random.getstate(),
        "numpy.random": (numpy_state[1].tobytes(), *numpy_state[2:]),
        "PyTorch's generator": torch.get_rng_state().numpy().tobytes(),
    }
    if torch.cuda.is_initialized():
        states["PyTorch's CUDA generator"] = [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]
    return states


def draws(function: Callable[[], object]) -> bool:
    """Whether a function draws random numbers from a global generator, whose state is restored afterwards."""
    with seeded(0):
        before = _states()
        function()
        return _states() != before


class RefuseRandomOperations(DispatchMode):
    """Refuses random operations as `vmap` does, with the same error, where a model runs without `vmap`."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in function.tags and _draws(function, args, kwargs or {}):
            raise RuntimeError(VMAP_RANDOM_ERROR)
        return function(*args, **(kwargs or {}))


def _draws(function: Any, args: Any, kwargs: Any) -> bool:
    """False for a random operation that is called without its random part, such as attention without dropout."""
    defaults = {argument.name: argument.default_value for argument in function._schema.arguments}
    values = defaults | dict(zip(defaults, args, strict=False)) | kwargs
    return values.get("dropout_p", values.get("dropout")) != 0 and values.get("training") is not False
