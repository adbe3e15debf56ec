"""Averages of the weights as Python."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from hpo.optim.averages import EMA, ROUND_UP, Average

INCLUDE = '''\
@torch.no_grad()
def include(average, network, share):
    """average ← average + share · (network − average), for parameters and for buffers such as BatchNorm's."""
    means, values = ([*each.parameters(), *each.buffers()] for each in (average, network))
    for mean, value in zip(means, values):
        if mean.is_floating_point():
            mean.lerp_(value, share)
        else:
            mean.copy_(value)'''


class AverageLines(NamedTuple):
    """The lines that update the average: after each step and at the end of each epoch, both counted from 1."""

    after_step: tuple[str, ...] = ()
    after_epoch: tuple[str, ...] = ()


def average_lines(average: Average | None, values: Mapping[str, Any], epochs: int) -> AverageLines:
    """values: of the hyperparameters."""
    if average is None:
        return AverageLines()
    if isinstance(average, EMA):
        decay = values["ema_decay"]
        return AverageLines(after_step=(f"include(average, network, (1 - {decay}) / (1 - {decay} ** step))",))
    start = values["swa_start"]
    before = math.floor(start * epochs * ROUND_UP if start < 1 else start)
    return AverageLines(after_epoch=(f"include(average, network, 1 / max(1, epoch - {before}))",))
