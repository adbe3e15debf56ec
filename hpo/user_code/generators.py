"""The global random generators of Python, numpy and PyTorch: seeded where user code builds, watched where it steps."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from hpo.errors import UsageError


@contextmanager
def seeded(number: int) -> Iterator[None]:
    """Seeds all three for the code inside, and gives the caller's states back afterwards.

    Args:
        number: 0 … 2⁶⁴ − 1; numpy takes its lower 32 bits.
    """
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            random.seed(number)
            np.random.seed(number & 0xFFFFFFFF)  # noqa: NPY002
            torch.manual_seed(number)
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def no_global_draws(who: str, advice: str) -> Iterator[None]:
    """Around code whose random numbers must follow from hpo's keys: nothing inside draws from a global generator.

    Args:
        who: whose code it is, such as "metric 'rank'". advice: what to do instead.

    Raises:
        UsageError: a generator has moved.
    """
    before = _states()
    yield
    after = _states()
    for name, state in before.items():
        if state != after[name]:
            raise UsageError(f"{who} draws random numbers from {name}, which do not follow from the seed; {advice}")


def _states() -> dict[str, Any]:
    numpys: Any = np.random.get_state()  # noqa: NPY002
    states: dict[str, Any] = {
        "Python's random module": random.getstate(),
        "numpy.random": (numpys[1].tobytes(), *numpys[2:]),
        "PyTorch's generator": torch.get_rng_state().numpy().tobytes(),
    }
    if torch.cuda.is_initialized():
        states["PyTorch's CUDA generator"] = [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]
    return states
