"""Arithmetic on parameter trees, which are dicts of tensors with one leaf a parameter.

Every function works on one model; inside `vmap` a leaf has the shape of one model's parameter.
"""

import torch
from torch import Tensor

Tree = dict[str, Tensor]

# Added to a norm before dividing by it, so that a zero gradient gives a zero step instead of NaN; as in SAM and GAM.
TINY = 1e-12
NEARLY_ZERO = 1e-3  # below it, `without_zeros` takes another number
PERIOD = 1009  # of the numbers in `without_zeros`; a prime, so that the rows of a matrix differ


def dot(first: Tree, second: Tree) -> Tensor:
    """Inner product over all leaves; a scalar."""
    products = [torch.dot(first[name].flatten(), second[name].flatten()) for name in first]
    return torch.stack(products).sum()


def norm(tree: Tree) -> Tensor:
    """Euclidean norm over all leaves; a scalar."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(leaf) for leaf in tree.values()]))


def scale(factor: Tensor | float, tree: Tree) -> Tree:
    """factor · tree."""
    return {name: factor * leaf for name, leaf in tree.items()}


def add_scaled(tree: Tree, factor: Tensor, direction: Tree) -> Tree:
    """tree + factor · direction, each leaf in one pass."""
    return {name: torch.addcmul(leaf, factor, direction[name]) for name, leaf in tree.items()}


def clip_factors(norms: Tensor, threshold: Tensor, epsilon: float = 1e-8) -> Tensor:
    """min(1, threshold/(norm + epsilon)): the factors by which clipping limits norms to a threshold.

    The default epsilon is that of the published ROGC script.
    """
    return (threshold / (norms + epsilon)).clamp(max=1.0)


def subtract(first: Tree, second: Tree) -> Tree:
    """first − second."""
    return {name: leaf - second[name] for name, leaf in first.items()}


def lerp(first: Tree, second: Tree, share: Tensor) -> Tree:
    """(1 − share) · first + share · second, each leaf in one pass."""
    return {name: leaf.lerp(second[name], share) for name, leaf in first.items()}


def normalized_step(tree: Tree, length: Tensor, direction: Tree, epsilon: float = TINY) -> Tree:
    """tree + length · direction/(‖direction‖ + epsilon); a direction of zeros leaves the tree unchanged."""
    return add_scaled(tree, length / (norm(direction) + epsilon), direction)


def adaptive_normalized_step(tree: Tree, length: Tensor, direction: Tree) -> Tree:
    """tree + length · tree² direction/(‖|tree| direction‖ + 1e-12), componentwise: larger entries move further."""
    weighted = {name: leaf * direction[name] for name, leaf in tree.items()}
    factor = length / (norm(weighted) + TINY)
    return {name: torch.addcmul(leaf, factor * leaf, weighted[name]) for name, leaf in tree.items()}


def zeros_like(tree: Tree) -> Tree:
    """A tree of zeros with the same leaves."""
    return {name: torch.zeros_like(leaf) for name, leaf in tree.items()}


def without_zeros(values: Tensor) -> Tensor:
    """The values with numbers of both signs instead of those around 0, which would hide what they multiply.

    The numbers follow from the shape. Those of a weight [O, ...] are as large as PyTorch's initial ones, so that the
    outputs of no network grow by much.
    """
    size = max(1, values.shape[1:].numel()) ** -0.5 if values.dim() > 1 else 0.1
    squares = torch.arange(PERIOD, device=values.device).square() % PERIOD
    others = (size * (1 - 2 * squares / PERIOD)).to(values.dtype).repeat(-(-values.numel() // PERIOD))
    return torch.where(values.abs() < NEARLY_ZERO, others[: values.numel()].reshape(values.shape), values)


def broadcast_to(values: Tensor, leaf: Tensor) -> Tensor:
    """values [K], reshaped to broadcast over leaf [K, ...]."""
    return values.reshape(-1, *[1] * (leaf.dim() - 1))
