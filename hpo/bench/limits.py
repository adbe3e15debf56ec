"""What the device could do at best, its rates of matrix products and of copying, and what a step asks of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from hpo.bench.timing import seconds
from hpo.dispatch import DispatchMode
from hpo.gradients.returns import without_caches
from hpo.training.population import Population

COPIED = 2**26  # numbers: more than any cache holds
SQUARE = 2048  # rows and columns of a product that keeps any device busy


class Limits(NamedTuple):
    """Rates of a device: floating-point operations and bytes, a second each."""

    operations: float
    bytes: float

    def shares(self, work: "Work", taken: float) -> tuple[float, float]:
        """Which part of `taken` seconds the work's operations, and its bytes, would have taken at these rates."""
        return work.operations / self.operations / taken, work.bytes / self.bytes / taken


class Work(NamedTuple):
    """What a model's step asks for at least: floating-point operations and bytes; see `work_of`."""

    operations: float
    bytes: float


def measure_limits(device: torch.device, models: int, samples: int) -> Limits:
    """The highest rate of float32 matrix products, and that of copying a large tensor (read and written bytes).

    The products are one of two large square matrices, and as many as there are models of the MLP's widest layer: on a
    CPU whose caches are small the latter may be faster.
    """
    inputs, square = torch.randn(models, samples, 256, device=device), torch.randn(SQUARE, SQUARE, device=device)
    weights = torch.randn(models, 256, 256, device=device)
    large, target = torch.randn(COPIED, device=device), torch.empty(COPIED, device=device)
    batched = 2 * models * samples * 256 * 256 / seconds(lambda: torch.bmm(inputs, weights), device)
    single = 2 * SQUARE**3 / seconds(lambda: torch.mm(square, square), device)
    copy = seconds(lambda: target.copy_(large), device)
    return Limits(max(batched, single), 2 * COPIED * large.element_size() / copy)


def work_of(step: Callable[[], object], population: Population, batch: tuple[Tensor, ...]) -> Work:
    """What one call of `step` asks for, a model's share.

    Operations are those of matrix products and convolutions (a multiplication and an addition count two), as
    `torch.utils.flop_counter` sees them; elementwise ones are not counted. Bytes are the least that has to be moved,
    whatever a cache holds in between: parameters, gradients, buffers, and the states of optimizer and regularizer,
    each read once and written once, and the batch, read once. Activations are not among them.

    Args:
        step: of the population, past its first calls, which do more; batch: what it trains on, leaves [K, ...].
    """
    with FlopCounterMode(display=False) as counter:
        step()
    trained = population.params
    states = [without_caches(population.optimizer_state), population.regularizer_state]
    stored = [trained, trained, population.buffers, *states]  # a gradient is as its leaf
    moved = 2 * _bytes(stored) + _bytes(batch)
    return Work(counter.get_total_flops() / len(population), moved / len(population))


def _bytes(tree: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def products_of(step: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """The matrix products and convolutions of one call of `step` alone, of the same shapes, to be called again.

    On CUDA they are launched as one graph, as the steps of training are.
    """
    with _Products() as seen:
        step()

    def products() -> None:
        for function, operands, options in seen.calls:
            function(*operands, **options)

    if device.type != "cuda":
        return products
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        products()
    return graph.replay


class _Products(DispatchMode):
    """Notes what the operations counter would count."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function._overloadpacket in flop_registry:
            self.calls.append((function, args, kwargs or {}))
        return function(*args, **(kwargs or {}))
