"""Schedules: factors by which the learning rate or another hyperparameter is multiplied during training."""

import math
from dataclasses import dataclass, field

from hpo.errors import require


class _Schedule:
    """A linear warm-up of `warmup_epochs` epochs, times the schedule's own factor."""

    warmup_epochs: float

    def __post_init__(self) -> None:
        require(self.warmup_epochs >= 0, "schedule: warmup_epochs", self.warmup_epochs, "0 or more")

    def __call__(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Factor of step number `step` (from 0) of `steps`."""
        warmup_steps = self.warmup_epochs * steps_per_epoch
        warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        return warmup * self._factor(step, steps, steps_per_epoch, warmup_steps)

    def _factor(self, step: int, steps: int, steps_per_epoch: int, warmup_steps: float) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(_Schedule):
    """A constant value, after a linear warm-up."""

    warmup_epochs: float = 0.0

    def _factor(self, *_: float) -> float:
        return 1.0


@dataclass(frozen=True)
class Cosine(_Schedule):
    """Half a cosine from 1 to `end` over the run (Loshchilov & Hutter, arXiv:1608.03983), after a linear warm-up."""

    warmup_epochs: float = 0.0
    end: float = field(default=0.0, metadata={"described": "end"})

    def _factor(self, step: int, steps: int, _: int, warmup_steps: float) -> float:
        share = max(0.0, step - warmup_steps) / max(1.0, steps - warmup_steps)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Linear(_Schedule):
    """A straight line from `start` to `end` over the run, after a linear warm-up; for example Linear(0, 1) rises."""

    start: float = 1.0
    end: float = 0.0
    warmup_epochs: float = 0.0

    def _factor(self, step: int, steps: int, _: int, warmup_steps: float) -> float:
        share = max(0.0, step - warmup_steps) / max(1.0, steps - warmup_steps)
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class MultiStep(_Schedule):
    """The learning rate multiplied by `factor` at every milestone, after a linear warm-up.

    Attributes:
        milestones: when it falls, in ascending order: shares of the run (all below 1; 0.5 is half-way), or numbers of
            epochs from the beginning. Shares scale with a study's `tuning_epochs`, numbers of epochs do not.
        factor: above 0, at most 1.
        warmup_epochs: milestones count from the beginning of the run, not from the end of the warm-up.
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1
    warmup_epochs: float = 0.0

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
