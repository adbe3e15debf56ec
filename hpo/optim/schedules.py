"""Schedules: factors by which the learning rate or another hyperparameter is multiplied during training."""

import math
from dataclasses import dataclass, field

from hpo.errors import require


class _Schedule:
    """A linear warm-up of `warmup_epochs` epochs, times the schedule's own factor."""

    warmup_epochs: float
    warmup_start: float
    by_epoch: bool

    def __post_init__(self) -> None:
        require(self.warmup_epochs >= 0, "schedule: warmup_epochs", self.warmup_epochs, "0 or more")
        expected = "a fraction of the learning rate from 0 to 1"
        require(0 <= self.warmup_start <= 1, "schedule: warmup_start", self.warmup_start, expected)

    def __call__(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Factor of step number `step` (from 0) of `steps`."""
        if self.by_epoch:
            step -= step % steps_per_epoch
        warmup_steps = self.warmup_epochs * steps_per_epoch
        warmup = 1.0
        if step < warmup_steps:
            done = step if self.by_epoch else step + 1  # the last step of a warm-up has the full rate
            warmup = self.warmup_start + (1 - self.warmup_start) * min(1.0, done / warmup_steps)
        return warmup * self._factor(step, steps, steps_per_epoch, warmup_steps)

    def _factor(self, step: int, steps: int, steps_per_epoch: int, warmup_steps: float) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(_Schedule):
    """A constant value, after a linear warm-up.

    Attributes:
        warmup_epochs: length of the warm-up. warmup_start: where it begins, as a fraction of the learning rate.
        by_epoch: whether the factor changes after each epoch only, as PyTorch's schedulers are mostly used, and not
            after each step.
    """

    warmup_epochs: float = 0.0
    warmup_start: float = field(default=0.0, metadata={"described": "warmup_start"})
    by_epoch: bool = field(default=False, metadata={"described": "by_epoch"})

    def _factor(self, *_: float) -> float:
        return 1.0


@dataclass(frozen=True)
class Cosine(_Schedule):
    """Half a cosine from 1 to `end` over the run (Loshchilov & Hutter, arXiv:1608.03983), after a linear warm-up.

    Attributes:
        end: the factor after the last step, PyTorch's `eta_min` as a fraction of the learning rate.
        warmup_epochs, warmup_start, by_epoch: as for `Constant`.
    """

    warmup_epochs: float = 0.0
    end: float = field(default=0.0, metadata={"described": "end"})
    warmup_start: float = field(default=0.0, metadata={"described": "warmup_start"})
    by_epoch: bool = field(default=False, metadata={"described": "by_epoch"})

    def _factor(self, step: int, steps: int, _: int, warmup_steps: float) -> float:
        share = max(0.0, step - warmup_steps) / max(1.0, steps - warmup_steps)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Linear(_Schedule):
    """A straight line from `start` to `end` over the run, after a linear warm-up; for example Linear(0, 1) rises."""

    start: float = 1.0
    end: float = 0.0
    warmup_epochs: float = 0.0
    warmup_start: float = field(default=0.0, metadata={"described": "warmup_start"})
    by_epoch: bool = field(default=False, metadata={"described": "by_epoch"})

    def _factor(self, step: int, steps: int, _: int, warmup_steps: float) -> float:
        share = max(0.0, step - warmup_steps) / max(1.0, steps - warmup_steps)
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class MultiStep(_Schedule):
    """The learning rate multiplied by `factor` at every milestone, after a linear warm-up.

    Attributes:
        milestones: when it falls, in ascending order: shares of the run (all below 1; 0.5 is half-way), or numbers of
            epochs from the beginning. Shares scale with a study's `tuning_epochs`, numbers of epochs do not. With
            epochs e, the factor falls after e epochs, as in PyTorch; in VaSSO's program two epochs later.
        factor: above 0, at most 1.
        warmup_epochs: milestones count from the beginning of the run, not from the end of the warm-up.
        warmup_start, by_epoch: as for `Constant`.
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1
    warmup_epochs: float = 0.0
    warmup_start: float = field(default=0.0, metadata={"described": "warmup_start"})
    by_epoch: bool = field(default=False, metadata={"described": "by_epoch"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        super().__post_init__()
        is_ascending = list(self.milestones) == sorted(set(self.milestones))
        kinds = {milestone < 1 for milestone in self.milestones}
        valid = len(kinds) == 1 and is_ascending and min(self.milestones) > 0
        expected = "ascending numbers above 0, all of them shares of the run (below 1) or all of them epochs"
        require(valid, "schedule: milestones", self.milestones, expected)
        require(0 < self.factor <= 1, "schedule: factor", self.factor, "a number above 0 and at most 1")

    def _factor(self, step: int, steps: int, steps_per_epoch: int, _: float) -> float:
        # To the nearest step: 0.7 · 10 is 7.000000000000001.
        falls = [round(milestone * (steps if milestone < 1 else steps_per_epoch)) for milestone in self.milestones]
        return self.factor ** sum(step >= fall for fall in falls)


SCHEDULES = {"Constant": Constant, "Cosine": Cosine, "Linear": Linear, "MultiStep": MultiStep}
