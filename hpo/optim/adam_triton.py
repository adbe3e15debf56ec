"""Adam's update of one block of one model's weights, as a Triton kernel. Imported only where Triton is installed."""

import triton
import triton.language as tl

FACTORS = tl.constexpr(7)  # per model


@triton.jit
def update(weights, gradients, means, squares, factors, count, DECOUPLED: tl.constexpr, BLOCK: tl.constexpr):
    """Arrays are [K, count], contiguous; `factors` [K, 7] as `adam.factors` gives them; the grid is (blocks, K)."""
    model = tl.program_id(1)  # the second axis of a grid is limited to 65,535: too few for a large leaf's blocks
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < count
    offsets += model.to(tl.int64) * count
    start = factors + model * FACTORS
    keep, decay, beta1, beta2 = tl.load(start), tl.load(start + 1), tl.load(start + 2), tl.load(start + 3)
    size, spread, epsilon = tl.load(start + 4), tl.load(start + 5), tl.load(start + 6)
    weight = tl.load(weights + offsets, mask=inside)
    gradient = tl.load(gradients + offsets, mask=inside)
    if not DECOUPLED:
        gradient += decay * weight
    mean = tl.load(means + offsets, mask=inside)
    mean += (gradient - mean) * (1 - beta1)
    square = tl.load(squares + offsets, mask=inside)
    square = square * beta2 + gradient * gradient * (1 - beta2)
    weight = weight * keep - size * mean / (tl.sqrt(square) * spread + epsilon)
    tl.store(weights + offsets, weight, mask=inside)
    tl.store(means + offsets, mean, mask=inside)
    tl.store(squares + offsets, square, mask=inside)
