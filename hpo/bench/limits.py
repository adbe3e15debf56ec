"""What the device could do at best, its rates of matrix products and of copying, and what a step asks of them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from hpo.bench.timing import seconds

# A step with Adam reads the weights for both passes, writes and reads the gradient, and reads and writes the weights
# and both moments.
PASSES_OVER_PARAMETERS = 10
COPIED = 2**26  # numbers: more than any cache holds


class Limits(NamedTuple):
    """Rates of a device: floating-point operations and bytes, a second each."""

    operations: float
    bytes: float

    def shares(self, work: "Work", taken: float) -> tuple[float, float]:
        """Which part of `taken` seconds the work's operations, and its bytes, would have taken at these rates."""
        return work.operations / self.operations / taken, work.bytes / self.bytes / taken


class Work(NamedTuple):
    """What a step asks for at least: operations of its matrix products and convolutions, bytes of its parameters."""

    operations: float
    bytes: float


def measure_limits(device: torch.device, models: int, samples: int) -> Limits:
    """The rate of batched products of the MLP's widest layer for so many models, and that of copying a large tensor."""
    inputs = torch.randn(models, samples, 256, device=device)
    weights = torch.randn(models, 256, 256, device=device)
    large, target = torch.randn(COPIED, device=device), torch.empty(COPIED, device=device)
    products = seconds(lambda: torch.bmm(inputs, weights), device)
    copy = seconds(lambda: target.copy_(large), device)
    return Limits(2 * models * samples * 256 * 256 / products, 2 * COPIED * large.element_size() / copy)


def work_of(step: Callable[[], object], parameters: int, models: int) -> Work:
    """What one call of `step` asks for, a model's share.

    Args:
        step: of a population of `models`; parameters: of one model.
    """
    with FlopCounterMode(display=False) as counter:
        step()
    return Work(counter.get_total_flops() / models, PASSES_OVER_PARAMETERS * 4 * parameters)
