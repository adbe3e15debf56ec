"""Learning-rate schedules: factors that a learning rate is multiplied by, the same for every configuration."""

import math
from dataclasses import dataclass

from hpo.errors import UsageError


@dataclass(frozen=True)
class Constant:
    """The learning rate as it is, after a linear warm-up of so many epochs."""

    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup_epochs)

    def __call__(self, step: int, steps: int, steps_per_epoch: int) -> float:  # noqa: ARG002
        """Factor of step number `step` (from 0) of `steps`."""
        return _warmup(step, self.warmup_epochs * steps_per_epoch)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to 0 over the run (Loshchilov & Hutter, arXiv:1608.03983), after a linear warm-up."""

    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup_epochs)

    def __call__(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Factor of step number `step` (from 0) of `steps`."""
        warm = self.warmup_epochs * steps_per_epoch
        if step < warm:
            return _warmup(step, warm)
        return (1 + math.cos(math.pi * (step - warm) / max(1.0, steps - warm))) / 2


@dataclass(frozen=True)
class MultiStep:
    """The learning rate multiplied by `factor` at every milestone, after a linear warm-up.

    Attributes:
        milestones: when it falls, in ascending order; each a share of the run where below 1 (0.5: half-way), else a
            number of epochs from the beginning. Shares follow a study's `tuning_epochs`, numbers of epochs do not.
        factor: above 0, at most 1.
        warmup_epochs: milestones count from the beginning of the run, not from the end of the warm-up.
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        _check_warmup(self.warmup_epochs)
        shares = [milestone for milestone in self.milestones if milestone < 1]
        epochs = [milestone for milestone in self.milestones if milestone >= 1]
        rising = all(first < second for first, second in zip(self.milestones, self.milestones[1:], strict=False))
        if not self.milestones or not rising or min(self.milestones) <= 0 or (shares and epochs):
            raise UsageError(
                f"schedule: milestones is {self.milestones!r}; give ascending numbers above 0, "
                "all of them shares of the run (below 1) or all of them epochs"
            )
        if not 0 < self.factor <= 1:
            raise UsageError(f"schedule: factor is {self.factor!r}; give a number above 0 and at most 1")

    def __call__(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Factor of step number `step` (from 0) of `steps`."""
        # To the nearest step: 0.7 · 10 is 7.000000000000001.
        falls = [round(milestone * (steps if milestone < 1 else steps_per_epoch)) for milestone in self.milestones]
        passed = sum(step >= fall for fall in falls)
        return _warmup(step, self.warmup_epochs * steps_per_epoch) * self.factor**passed


SCHEDULES = {"Constant": Constant, "Cosine": Cosine, "MultiStep": MultiStep}


def _warmup(step: int, warm: float) -> float:
    return min(1.0, (step + 1) / warm) if warm else 1.0


def _check_warmup(epochs: float) -> None:
    if epochs < 0:
        raise UsageError(f"schedule: warmup_epochs is {epochs!r}; give 0 or more")
