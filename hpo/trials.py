"""Trials and reruns: what passes between ledger, worker and reports, and failures by cause.

A run that diverged is finished and counts. The other causes end an attempt, which is made again; a run that no attempt
is left for has failed for good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from hpo.errors import plural

STARTUP_TRIALS = 10  # TPE's random trials, asked together before it models anything
Phase = Literal["tune", "rerun"]
Setting = dict[str, float]
# Causes of a finished slot; the last is that of a trial which trained well and whose metric is not finite.
DIVERGED, PRUNED, NO_SCORE = "diverged", "pruned", "without a finite score"


class FinishedTrial(NamedTuple):
    """What a sampler knows of a finished trial.

    Attributes:
        value: None where it has none. stopped_epoch: the epoch after which it was pruned, or None; 0 says that it
            diverged or has no score where others were pruned: no epoch of it counts.
    """

    setting: Setting
    value: float | None
    stopped_epoch: int | None = None


class TrialCurve(NamedTuple):
    """What a pruner knows of a finished trial.

    Attributes:
        curve: the metric that tuning optimises, by epoch, up to the epoch before it diverged.
        value: its score at the end, if it has any. epochs: that it was trained for. pruned: whether it was pruned.
    """

    curve: Sequence[float]
    value: float | None
    epochs: int
    pruned: bool


class Slot(NamedTuple):
    """One trial or rerun in hand. `setting` is None until it is sampled; `trial` is its Optuna trial's id.

    `attempt` counts the leases of this setting, from 1; `replacements` the settings given up before it. `tuning_run` is
    the tuning run that the slot belongs to, `batch` the batch in which that tuning run asks for its setting.
    """

    id: int
    slot: int
    seed: int
    attempt: int
    setting: Setting | None = None
    trial: int | None = None
    tuning_run: int = 0
    replacements: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Work:
    """Slots of one configuration and one phase, of one or several tuning runs, to be trained side by side."""

    configuration: str
    phase: Phase
    slots: list[Slot]

    def only(self, slots: Sequence[Slot]) -> "Work":
        """The same work with these slots alone."""
        return replace(self, slots=list(slots))


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        value: the score (tuning) or test accuracy (rerun); None where a run has none.
        cause: None, "diverged", "pruned" or "without a finite score"; a pruned trial's value is its score at the epoch
            where it was stopped.
        result: scalars of the end of the run. curves: metric → one value an epoch, from epoch 1.
        seconds: wall time of the population divided by its size.
    """

    id: int
    attempt: int
    value: float | None
    cause: str | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seconds: float | None = None


CAUSES = ("diverged", "out of memory", "exception", "lost worker", "timeout")


def by_cause(diverged: int, attempts: Mapping[str, int]) -> dict[str, int]:
    """Cause → how often, only causes that occurred, always in the same order.

    Args:
        diverged: runs that diverged. attempts: other causes → attempts that they ended.
    """
    found = {"diverged": diverged, **attempts}
    known = [cause for cause in CAUSES if cause in found]
    return {cause: found[cause] for cause in [*known, *sorted(found.keys() - set(CAUSES))] if found[cause]}


def in_words(causes: Mapping[str, int], for_good: int = 0) -> str:
    """ "diverged × 2, exception × 4; 2 runs failed for good"; nothing for no failure."""
    words = ", ".join(f"{cause} × {times}" for cause, times in causes.items())
    lasting = f"{plural(for_good, 'run')} failed for good" if for_good else ""
    return "; ".join(part for part in (words, lasting) if part)


STATES = {"done": "finished", "work": "unfinished", "wait": "unfinished, waiting for running trials"}


def describe_state(state: str, failed: int) -> str:
    """What `Ledger.state` returns, in words; `failed` is the number of runs that failed for good."""
    return "finished, but some runs failed for good" if state == "done" and failed else STATES[state]
