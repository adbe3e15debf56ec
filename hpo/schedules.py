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


SCHEDULES = {"Constant": Constant, "Cosine": Cosine}


def _warmup(step: int, warm: float) -> float:
    return min(1.0, (step + 1) / warm) if warm else 1.0


def _check_warmup(epochs: float) -> None:
    if epochs < 0:
        raise UsageError(f"schedule: warmup_epochs is {epochs!r}; give 0 or more")
