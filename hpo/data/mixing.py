"""mixup and CutMix: the samples of a minibatch are mixed in pairs, and so are their labels.

mixup: Zhang et al., arXiv:1710.09412. CutMix: Yun et al., arXiv:1905.04899. As in their code, all samples of a batch
have the same weight, and as in torchvision a sample's partner is the one before it, since minibatches are random.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.random import integer, uniform

MIXED, METHOD, WEIGHT, ROW, COLUMN = range(5)  # the draws of a minibatch's key


class Mixing(NamedTuple):
    """Which minibatches are mixed, and how.

    Attributes:
        mixup, cutmix: α of the weight's distribution, Beta(α, α); 0: not this method. With both, each minibatch is
            mixed by one of them, with equal probability. probability: that a minibatch is mixed at all.
    """

    mixup: float
    cutmix: float
    probability: float


class Mix(NamedTuple):
    """How minibatches are mixed, one entry [...] each.

    Attributes:
        weights: of a sample itself, as against its partner; 1 where not all of it is mixed.
        boxes: int64 [..., 4], first and past-the-end row and column of what a sample takes from its partner.
        shares: of its own label.
    """

    weights: Tensor
    boxes: Tensor
    shares: Tensor


def draw_mix(mixing: Mixing, keys: Tensor, height: int = 1, width: int = 1) -> Mix:
    """The mix of every minibatch, from its key [...] on the CPU; height and width are those of images."""
    from scipy.special import betaincinv

    mixed = uniform(keys, MIXED) < mixing.probability
    both = bool(mixing.mixup and mixing.cutmix)
    cuts = uniform(keys, METHOD) < 0.5 if both else torch.full_like(mixed, bool(mixing.cutmix))
    alphas = np.where(cuts.numpy(), mixing.cutmix, mixing.mixup)
    weights = torch.from_numpy(np.asarray(betaincinv(alphas, alphas, uniform(keys, WEIGHT).double().numpy())))
    # A square-root share of height and width around a random pixel, as far as it is inside.
    reach = 0.5 * (1 - weights).sqrt()
    ends = []
    for size, draw in ((height, ROW), (width, COLUMN)):
        middle, half = integer(keys, draw, size), (reach * size).long()
        ends += [(middle - half).clamp(min=0), (middle + half).clamp(max=size)]
    boxes = torch.stack(ends, -1) * (mixed & cuts)[..., None]
    area = (boxes[..., 1] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 2])
    weights = torch.where(mixed & ~cuts, weights, 1.0)
    return Mix(weights, boxes, torch.where(cuts, 1 - area.double() / (height * width), weights))


def mix_samples(inputs: Tensor, mix: Mix, cut: bool) -> Tensor:
    """Minibatches [K, V, N, ...], each sample mixed with the one before it.

    Args:
        mix: [K]. cut: whether any has a box; inputs are then [K, V, N, ..., H, W].

    Raises:
        UsageError: such inputs cannot be mixed.
    """
    if not inputs.is_floating_point():
        kind = str(inputs.dtype).removeprefix("torch.")
        raise UsageError(f"data: mixup and CutMix got {kind} inputs; convert them to floats in load()")
    if cut and inputs.dim() < 5:
        raise UsageError(f"data: cutmix needs images, and a sample has shape {tuple(inputs.shape[3:])}; use mixup")
    others = inputs.roll(1, 2)
    weights = mix.weights.to(inputs.dtype).view(-1, *[1] * (inputs.dim() - 1))
    mixed = torch.lerp(others, inputs, weights)
    if not cut:
        return mixed
    top, bottom, left, right = mix.boxes.view(-1, *[1] * (inputs.dim() - 2), 4).unbind(-1)
    rows = torch.arange(inputs.shape[-2], device=inputs.device)
    columns = torch.arange(inputs.shape[-1], device=inputs.device)
    inside_rows = (rows >= top) & (rows < bottom)
    inside_columns = (columns >= left) & (columns < right)
    return torch.where(inside_rows[..., None] & inside_columns[..., None, :], others, mixed)


def mix_labels(labels: Tensor, classes: int, mix: Mix, dtype: torch.dtype) -> Tensor:
    """The share of every class [K, N, C] in samples with labels [K, N] that `mix_samples` mixes; mix: [K]."""
    own = (labels[..., None] == torch.arange(classes, device=labels.device)).to(dtype)
    return torch.lerp(own.roll(1, 1), own, mix.shares.to(dtype)[:, None, None])
