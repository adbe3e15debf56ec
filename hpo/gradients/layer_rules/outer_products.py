"""Per-sample gradients that are sums of outer products over positions, g_i = Σ_t δ_it a_itᵀ.

Such are a convolution's (a_it is the patch that output position t sees) and those of a Linear layer over [N, T, I].
With D [O, T] and A [I, T] of one sample, g = D Aᵀ has O·I entries, and ‖g‖² = Σ (DᵀD)∘(AᵀA) needs T·T instead.

The identity: Rochette et al., "Efficient per-example gradient computations in convolutional neural networks",
arXiv:1912.06015; Li et al., "Large language models can be strong differentially private learners", arXiv:2110.05679.
"""

import torch
from torch import Tensor

# Entries of per-sample gradients formed at once where they are summed up over samples.
ENTRIES_AT_ONCE = 2**22


def gram_is_smaller(outputs: int, features: int, positions: int) -> bool:
    """Whether two T × T products of a sample take fewer multiplications than its O × I gradient."""
    return positions * (outputs + features) < outputs * features


def square_norms(delta: Tensor, inputs: Tensor) -> Tensor:
    """‖g_i‖² [N] for delta [N, ..., O, T] and inputs [N, ..., I, T]; axes between are further independent blocks."""
    if gram_is_smaller(delta.shape[-2], *inputs.shape[-2:]):
        squares = (delta.mT @ delta) * (inputs.mT @ inputs)
    else:
        squares = (delta @ inputs.mT).square()
    return squares.flatten(1).sum(1)


def mean(delta: Tensor, inputs: Tensor) -> Tensor:
    """mean_i g_i [..., O, I]."""
    return torch.einsum("n...ot,n...it->...oi", delta, inputs) / len(delta)


def sign_mean(delta: Tensor, inputs: Tensor) -> Tensor:
    """mean_i sign(g_i) [..., O, I]; with more than one position no shorter way than forming g_i is known."""
    if delta.shape[-1] == 1:
        # The signs of an outer product are the outer product of the signs.
        return mean(delta.sign(), inputs.sign())
    entries = delta[0, ..., 0].numel() * inputs.shape[-2]
    at_once = max(1, ENTRIES_AT_ONCE // entries)
    parts = zip(delta.split(at_once), inputs.split(at_once), strict=True)
    sums = [(some_delta @ some_inputs.mT).sign().sum(0) for some_delta, some_inputs in parts]
    return torch.stack(sums).sum(0) / len(delta)
