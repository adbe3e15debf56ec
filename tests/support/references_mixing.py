"""Slow, obviously right versions of mixup and CutMix: one minibatch, one sample at a time."""

import math
from typing import NamedTuple

import numpy as np
from references_data import MASK, integer, scramble, uniform
from scipy import stats

from hpo.random import stream_key


class Drawn(NamedTuple):
    weight: float
    box: tuple[int, int, int, int]  # top, bottom, left, right
    share: float


def key_of_step(seed: int, epoch: int, step: int) -> int:
    mixed = 0
    for part in (stream_key(seed, "data", "mixing"), epoch, step):
        mixed = scramble((mixed * 0x9E3779B1 + part) & MASK)
    return mixed


def draw(key: int, mixup: float, cutmix: float, probability: float, height: int, width: int) -> Drawn:
    """As in the code of both papers, with the draws of a key."""
    nothing = Drawn(1.0, (0, 0, 0, 0), 1.0)
    if uniform(key, 0) >= probability:
        return nothing
    cuts = uniform(key, 1) < 0.5 if mixup and cutmix else bool(cutmix)
    alpha = cutmix if cuts else mixup
    weight = float(stats.beta.ppf(uniform(key, 2), alpha, alpha))
    if not cuts:
        return Drawn(weight, (0, 0, 0, 0), weight)
    reach = math.sqrt(1 - weight)
    box_height, box_width = int(height * reach), int(width * reach)
    row, column = integer(key, 3, height), integer(key, 4, width)
    top, bottom = max(0, row - box_height // 2), min(height, row + box_height // 2)
    left, right = max(0, column - box_width // 2), min(width, column + box_width // 2)
    return Drawn(1.0, (top, bottom, left, right), 1 - (bottom - top) * (right - left) / (height * width))


def mix(inputs: np.ndarray, labels: np.ndarray, classes: int, drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """Samples [N, ...] and the shares [N, C] of their classes."""
    mixed, shares = inputs.copy(), np.zeros((len(labels), classes))
    for sample in range(len(labels)):
        partner = (sample - 1) % len(labels)
        mixed[sample] = drawn.weight * inputs[sample] + (1 - drawn.weight) * inputs[partner]
        top, bottom, left, right = drawn.box
        if bottom > top and right > left:
            mixed[sample, ..., top:bottom, left:right] = inputs[partner, ..., top:bottom, left:right]
        shares[sample, labels[sample]] += drawn.share
        shares[sample, labels[partner]] += 1 - drawn.share
    return mixed, shares
