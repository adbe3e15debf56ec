"""Averages of the weights along a training run, which are evaluated instead of the last ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpo.errors import is_number, require
from hpo.gradients.draws import Moment
from hpo.search_space import Choice, Entry, Range, When
from hpo.tree import Tree, broadcast_to

State = dict[str, Tree]
Values = Mapping[str, Tensor]  # of hyperparameters, [K]

# A share of the epochs times this is not below its whole number: 0.9 · 10 is 8.9999998 with float32's 0.9.
ROUND_UP = 1 + 1e-6


class Average:
    """Running means of the parameters and of the floating-point buffers, such as BatchNorm's statistics.

    Other buffers are those of the last step. A subclass says how much the current weights count in the new mean.
    """

    static: tuple[str, ...] = ()

    @property
    def hyperparameters(self) -> dict[str, Entry]:
        """As those of an optimizer."""
        raise NotImplementedError

    def init(self, params: Tree, buffers: Tree) -> State:
        """The means before the first step; leaves [K, ...]."""
        return {"params": _copies(params), "buffers": _copies(buffers)}

    def after_step(self, state: State, params: Tree, buffers: Tree, hyper: Values, moment: Moment) -> None:
        """Updates the means in place after a training step."""

    def after_epoch(self, state: State, params: Tree, buffers: Tree, hyper: Values, epoch: int, epochs: int) -> None:
        """Updates the means in place after the last step of an epoch, from 1."""

    def _include(self, state: State, params: Tree, buffers: Tree, share: Tensor) -> None:
        """mean ← mean + share · (current − mean), for shares [K]."""
        for means, current in ((state["params"], params), (state["buffers"], buffers)):
            for name, mean in means.items():
                if mean.is_floating_point():
                    mean.lerp_(current[name], broadcast_to(share.to(mean.dtype), mean))
                else:
                    mean.copy_(current[name])


@dataclass(frozen=True)
class EMA(Average):
    """The exponential moving average of the weights after every step, without weight on the initial ones.

    After step t it is (1 − decay) Σ decay^(t−i) w_i / (1 − decay^t), as Adam corrects its moments; so it is the mean of
    all weights in the first steps, and the usual average after many.

    Attributes:
        decay: in [0, 1), a number or a range; the hyperparameter `ema_decay`.
    """

    decay: Entry = 0.999

    def __post_init__(self) -> None:
        _require("EMA: decay", self.decay, 0, 1, "a number or range from 0 up to but not 1")

    @property
    def hyperparameters(self) -> dict[str, Entry]:
        return {"ema_decay": self.decay}

    def after_step(self, state: State, params: Tree, buffers: Tree, hyper: Values, moment: Moment) -> None:
        decay = hyper["ema_decay"].double()
        self._include(state, params, buffers, (1 - decay) / (1 - decay ** (moment.step + 1)))


@dataclass(frozen=True)
class SWA(Average):
    """Stochastic weight averaging (arXiv:1803.05407): the mean of the weights at the ends of the last epochs.

    Attributes:
        start: after which part of the run averaging begins, a number or a range: a share of the run if it is below 1,
            else a number of epochs; until then the current weights are evaluated. The hyperparameter `swa_start`.
    """

    start: Entry = 0.75

    def __post_init__(self) -> None:
        _require("SWA: start", self.start, 0, math.inf, "a share of the run (0 up to but not 1) or a number of epochs")

    @property
    def hyperparameters(self) -> dict[str, Entry]:
        return {"swa_start": self.start}

    def after_epoch(self, state: State, params: Tree, buffers: Tree, hyper: Values, epoch: int, epochs: int) -> None:
        start = hyper["swa_start"].double()
        before = torch.where(start < 1, start * epochs * ROUND_UP, start).floor()
        self._include(state, params, buffers, 1 / (epoch - before).clamp(min=1))


AVERAGES = {"EMA": EMA, "SWA": SWA}


def _copies(tree: Tree) -> Tree:
    return {name: leaf.clone(memory_format=torch.contiguous_format) for name, leaf in tree.items()}


def _require(name: str, entry: Any, low: float, below: float, expected: str) -> None:
    """Raises UsageError unless all values of a number, range or choice are in [low, below)."""
    bounds = entry.entry if isinstance(entry, When) else entry
    if isinstance(bounds, Range):
        values: tuple[Any, ...] = (bounds.low, bounds.high)
    else:
        values = bounds.values if isinstance(bounds, Choice) else (bounds,)
    require(all(is_number(value) and low <= value < below for value in values), name, entry, expected)
