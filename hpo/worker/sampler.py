"""Settings from Optuna's TPE, sampled in memory: no database in the loop."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.search_space import Range
from hpo.trials import STARTUP_TRIALS, Tried
from hpo.worker import batched_tpe

optuna.logging.set_verbosity(optuna.logging.WARNING)

Setting = dict[str, float]


def sample(
    ranges: Mapping[str, Range],
    finished: Sequence[tuple[Setting, float | None] | Tried],
    pending: Sequence[Setting],
    count: int,
    direction: str,
    seed: int,
) -> list[Setting]:
    """`count` settings asked together; the same for the same arguments.

    The first 10 trials of a study are random, then TPE models what is finished. Settings in training count as
    bad (constant liar), which keeps a batch apart.

    Args:
        ranges: what is tuned. Nothing tuned gives empty settings.
        finished: settings with their values and the epochs after which they were pruned, if they were, in a fixed
            order; no value (diverged without one) counts as the worst finite value.
        pending: settings that are in training. All settings have the names of `ranges`.
        direction: "maximize" or "minimize".
    """
    if not ranges:
        return [{} for _ in range(count)]
    spaces: dict[str, BaseDistribution] = {name: interval.distribution() for name, interval in ranges.items()}
    tried = [Tried(*entry) for entry in finished]
    worst = _worst([entry.value for entry in tried if entry.stopped is None], direction)
    known = [entry._replace(value=worst) if entry[1:] == (None, None) else entry for entry in tried]
    asked = None
    if len(known) >= STARTUP_TRIALS and _batch_agrees():
        asked = batched_tpe.ask(spaces, known, pending, count, direction == "maximize", _sampler(seed))
        if not all(ranges[name].low <= setting[name] <= ranges[name].high for setting in asked for name in ranges):
            asked = None  # Optuna draws such a value again, for itself
    if asked is None:
        asked = ask_one_by_one(spaces, known, pending, count, direction, seed)
    return [{name: _inside(ranges[name], setting[name]) for name in ranges} for setting in asked]


def ask_one_by_one(
    spaces: dict[str, BaseDistribution],
    finished: Sequence[Tried],
    pending: Sequence[Setting],
    count: int,
    direction: str,
    seed: int,
) -> list[Setting]:
    """The same by a study of Optuna's that is asked `count` times; `sample` needs it for the first trials alone."""
    study = optuna.create_study(direction=StudyDirection[direction.upper()], sampler=_sampler(seed))

    def trial(setting: Setting, state: TrialState, **how: Any) -> FrozenTrial:
        return create_trial(state=state, params=setting, distributions=spaces, **how)

    for setting, value, stopped in finished:
        if stopped is None:
            study.add_trial(trial(setting, TrialState.COMPLETE, value=value))
        else:
            reported = {stopped: math.nan if value is None else value}
            study.add_trial(trial(setting, TrialState.PRUNED, intermediate_values=reported))
    study.add_trials([trial(setting, TrialState.RUNNING) for setting in pending])
    return [study.ask(spaces).params for _ in range(count)]


def _sampler(seed: int) -> TPESampler:
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)


@functools.cache
def _batch_agrees() -> bool:
    """Whether asking a batch gives what asking one by one gives, with the Optuna that is installed."""
    spaces: dict[str, BaseDistribution] = {"b": FloatDistribution(1e-3, 1.0, log=True), "a": FloatDistribution(-1, 1)}
    settings = [{"a": math.sin(index), "b": 0.5 + 0.4 * math.cos(index)} for index in range(40)]
    finished = [Tried(own, own["a"] * own["b"], 3 if own["a"] < 0 else None) for own in settings[2:]]
    pending = settings[:2]
    try:
        asked = batched_tpe.ask(spaces, finished, pending, 3, True, _sampler(0))
    except (ImportError, AttributeError, TypeError):
        return False
    return asked == ask_one_by_one(spaces, finished, pending, 3, "maximize", 0)


def _worst(values: Sequence[float | None], direction: str) -> float:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return 0.0
    return min(finite) if direction == "maximize" else max(finite)


def _inside(interval: Range, value: float) -> float:
    """exp(log(x)) may leave the range by a rounding error."""
    return min(max(float(value), interval.low), interval.high)
