"""Adam's update of one block of one model's weights, as a Triton kernel. Imported only where Triton is installed."""

import triton
import triton.language as tl

FACTORS = tl.constexpr(7)  # numbers a model that the kernel reads


@triton.jit
def update(weights, gradients, means, squares, factors, count, DECOUPLED: tl.constexpr, BLOCK: tl.constexpr):
    """Arrays are [K, count], contiguous; `factors` [K, 7] as `adam.factors` gives them; the grid is (blocks, K)."""
    model = tl.program_id(1)  # the second axis of a grid has 65,535 places at most: too few for a large leaf's blocks
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    places += model.to(tl.int64) * count
    own = factors + model * FACTORS
    keep, decay, beta1, beta2 = tl.load(own), tl.load(own + 1), tl.load(own + 2), tl.load(own + 3)
    size, spread, epsilon = tl.load(own + 4), tl.load(own + 5), tl.load(own + 6)
    weight = tl.load(weights + places, mask=inside)
    gradient = tl.load(gradients + places, mask=inside)
    if not DECOUPLED:
        gradient += decay * weight
    mean = tl.load(means + places, mask=inside)
    mean += (gradient - mean) * (1 - beta1)
    square = tl.load(squares + places, mask=inside)
    square = square * beta2 + gradient * gradient * (1 - beta2)
    weight = weight * keep - size * mean / (tl.sqrt(square) * spread + epsilon)
    tl.store(weights + places, weight, mask=inside)
    tl.store(means + places, mean, mask=inside)
    tl.store(squares + places, square, mask=inside)
