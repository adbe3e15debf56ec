"""Trials and reruns as ledger, worker and reports exchange them, and their failures by cause.

A run that diverged is finished and counts. Any other cause ends an attempt, which is retried; a run with no attempts
left has failed for good.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from hpo.errors import plural
from hpo.space import Setting, split_space

STARTUP_TRIALS = 10  # random trials, sampled together before a sampler models any result
SEQUENCES = ("random", "qmc", "grid")  # samplers that do not learn from results
Phase = Literal["tune", "rerun"]
# Causes of a finished slot; the last means that training went well but the metric is not finite.
DIVERGED, PRUNED, NO_SCORE = "diverged", "pruned", "without a finite score"
# Causes of failure: the first ends a run, each other one an attempt.
CAUSES = (DIVERGED, "out of memory", "exception", "lost worker", "timeout")
STATES = {"done": "finished", "work": "unfinished", "wait": "running"}


def sampler_of(definition: Mapping[str, Any]) -> str:
    """The sampler of a definition: "tpe", "random", "gp", "cmaes", "qmc", "grid" or "custom"."""
    sampler = definition.get("sampler", "tpe")
    if isinstance(sampler, str):
        return sampler
    return "grid" if "grid" in sampler else "custom"


def tunes(entry: Mapping[str, Any]) -> bool:
    """Whether a configuration, as its definition describes it, has anything to tune."""
    return bool(split_space(entry["space"]).tuned)


def group_order(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    """Hyperparameter → the patterns of a configuration's parameter groups that change it, where there are several.

    Of two patterns for the same parameter the later one counts, so that two definitions with the same groups in another
    order may train differently.
    """
    patterns: dict[str, list[str]] = {}
    for pattern, changes in entry.get("groups", {}).items():
        for name in changes:
            patterns.setdefault(name, []).append(pattern)
    return {name: several for name, several in patterns.items() if len(several) > 1}


def trials_per_run(entry: Mapping[str, Any], planned: int) -> int:
    """The trials of a configuration in a tuning run: its own number, else one where it has nothing to tune.

    Args:
        entry: its definition. planned: the study's number of trials.
    """
    return entry.get("trials") or (planned if tunes(entry) else 1)


class FinishedTrial(NamedTuple):
    """A finished trial as a sampler sees it.

    Attributes:
        value: its score, if it has one. stopped_epoch: the epoch after which it was pruned, or None; 0 where it
            diverged or has no score in a study that prunes, since none of its epochs counts.
        slot, batch: its number in the tuning run, and the batch in which its setting was sampled.
    """

    setting: Setting
    value: float | None
    stopped_epoch: int | None = None
    slot: int = 0
    batch: int = 0


class TrialCurve(NamedTuple):
    """A finished trial as a pruner sees it.

    Attributes:
        curve: the score by epoch, up to the epoch before it diverged. value: its final score, if it has one.
        epochs: how many it was trained for. pruned: whether it was pruned.
    """

    curve: Sequence[float]
    value: float | None
    epochs: int
    pruned: bool


class Slot(NamedTuple):
    """A leased trial or rerun.

    Attributes:
        id: its row in the ledger. slot: its number in its configuration, phase and tuning run. seed: of its data,
            initial weights and batches.
        attempt: the leases of this setting, from 1. setting: None until it is sampled.
        trial: the id of its Optuna trial. tuning_run: the tuning run that it belongs to.
        replacements: settings given up before this one. batch: the batch of the tuning run that samples its setting.
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
    """Slots of one configuration and one phase, of one or several tuning runs, that are trained side by side."""

    configuration: str
    phase: Phase
    slots: list[Slot]

    def with_slots(self, slots: Sequence[Slot]) -> "Work":
        """The same work with these slots only."""
        return replace(self, slots=list(slots))


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        value: the score (tuning) or the test metric that is the task's primary one, such as accuracy (rerun); None
            where a run has none. A pruned trial's value is its score at the epoch where it was stopped.
        cause: None, "diverged", "pruned" or "without a finite score".
        result: scalars at the end of the run. curves: metric → one value per epoch, from epoch 1.
        seconds: wall time of the population divided by its size.
    """

    id: int
    attempt: int
    value: float | None
    cause: str | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seconds: float | None = None


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of a trial's models in every epoch that all of them have."""
    return [mean(values) for values in zip(*curves, strict=False)]


def mean(values: Sequence[float]) -> float:
    """The mean of a trial's models; equal values keep their type and every digit."""
    return values[0] if all(value == values[0] for value in values) else sum(values) / len(values)


def trial_rank(value: float | None, result: Mapping[str, Any] | None, slot: int, direction: str) -> tuple[float, ...]:
    """The sort key of finished trials, best first: by score, then lower validation loss, then lower slot."""
    sign = -1.0 if direction == "maximize" else 1.0
    loss = (result or {}).get("validation_loss")
    return math.inf if value is None else sign * value, math.inf if loss is None else loss, slot


def count_by_cause(diverged: int, attempts: Mapping[str, int]) -> dict[str, int]:
    """Cause → number of failures, for the causes that occurred, always in the same order.

    Args:
        diverged: runs that diverged. attempts: other causes → attempts that they ended.
    """
    counts = {DIVERGED: diverged, **attempts}
    order = [*CAUSES, *sorted(counts.keys() - set(CAUSES))]
    return {cause: counts[cause] for cause in order if counts.get(cause)}


def failure_text(causes: Mapping[str, int], for_good: int = 0) -> str:
    """ "diverged × 2, exception × 4; 2 runs failed for good"; empty for no failure."""
    counts = ", ".join(f"{cause} × {count}" for cause, count in causes.items())
    lost = f"{plural(for_good, 'run')} failed for good" if for_good else ""
    return "; ".join(part for part in (counts, lost) if part)


def describe_state(state: str, failed: int) -> str:
    """What `Ledger.state` returns, in words; `failed` is the number of runs that failed for good."""
    return "finished, but some runs failed for good" if state == "done" and failed else STATES[state]
