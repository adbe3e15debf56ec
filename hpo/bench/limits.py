"""The device's highest rates of matrix products and of copying, and the operations and bytes that a step needs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from hpo.bench.timing import seconds
from hpo.dispatch import DispatchMode
from hpo.training.population import Population
from hpo.training.products import faster_product

aten = torch.ops.aten
COPIED = 2**26  # numbers: more than any cache holds
SQUARE = 2048  # rows and columns of a product that keeps any device busy


class Amount(NamedTuple):
    """Floating-point operations and bytes: what a model's step needs at least, or what a device does in a second."""

    operations: float
    bytes: float


def measure_limits(device: torch.device, models: int, samples: int) -> Amount:
    """The highest rate of float32 matrix products, and that of copying a large tensor (bytes read and written).

    The products are one of two large square matrices, and as many as there are models of the MLP's widest layer: on a
    CPU whose caches are small the latter may be faster.
    """
    inputs, square = torch.randn(models, samples, 256, device=device), torch.randn(SQUARE, SQUARE, device=device)
    weights = torch.randn(models, 256, 256, device=device)
    large, target = torch.randn(COPIED, device=device), torch.empty(COPIED, device=device)
    multiply = faster_product(aten.bmm.default, (inputs, weights)) or torch.bmm
    batched = 2 * models * samples * 256 * 256 / seconds(lambda: multiply(inputs, weights), device)
    multiply_square = faster_product(aten.mm.default, (square, square)) or torch.mm
    single = 2 * SQUARE**3 / seconds(lambda: multiply_square(square, square), device)
    copy = seconds(lambda: target.copy_(large), device)
    return Amount(max(batched, single), 2 * COPIED * large.element_size() / copy)


def count_work(step: Callable[[], object], population: Population, batch: tuple[Tensor, ...]) -> Amount:
    """Operations and bytes that one call of `step` needs, per model.

    Operations are those of matrix products and convolutions (a multiplication and an addition count two), as
    `torch.utils.flop_counter` counts them, without elementwise ones. Bytes are a lower bound for any size of cache:
    parameters, gradients, buffers and the states of optimizer and regularizer are read once and written once, the
    batch is read once. Activations are not included.

    Args:
        step: trains the population; not one of its first calls, which do more. batch: its samples, leaves [K, ...].
    """
    with FlopCounterMode(display=False) as counter:
        step()
    states = [population.optimizer_state, population.regularizer_state]
    stored = [population.params, population.params, population.buffers, *states]  # gradients are as large as parameters
    moved = 2 * _bytes(stored) + _bytes(batch)
    return Amount(counter.get_total_flops() / len(population), moved / len(population))


def _bytes(tree: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def extract_products(step: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """A function that computes only the matrix products and convolutions of one call of `step`, in the same shapes.

    On CUDA they are launched as one graph, as training steps are.
    """
    with ProductRecorder() as recorder:
        step()

    def products() -> None:
        for function, operands, options in recorder.calls:
            function(*operands, **options)

    if device.type != "cuda":
        return products
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        products()
    return graph.replay


class ProductRecorder(DispatchMode):
    """Records the calls that `FlopCounterMode` counts, as (the function that a step calls, operands, options)."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function._overloadpacket in flop_registry:
            kernel = None if kwargs else faster_product(function, args)
            self.calls.append((kernel or function, args, kwargs or {}))
        return function(*args, **(kwargs or {}))
