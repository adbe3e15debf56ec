"""Settings from Optuna's TPE, sampled in memory: no database in the loop."""

import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.ledger.schedule import STARTUP
from hpo.space import Range

optuna.logging.set_verbosity(optuna.logging.WARNING)

Setting = dict[str, float]


def sample(
    ranges: Mapping[str, Range],
    finished: Sequence[tuple[Setting, float | None]],
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
        finished: settings with their values, in a fixed order; None (diverged without a value) counts as the
            worst finite value.
        pending: settings that are in training.
        direction: "maximize" or "minimize".
    """
    if not ranges:
        return [{} for _ in range(count)]
    spaces: dict[str, BaseDistribution] = {name: interval.distribution() for name, interval in ranges.items()}
    sampler = TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)
    study = optuna.create_study(direction=StudyDirection[direction.upper()], sampler=sampler)

    def trial(setting: Setting, state: TrialState, value: float | None = None) -> FrozenTrial:
        return create_trial(state=state, value=value, params=setting, distributions=spaces)

    worst = _worst([value for _, value in finished], direction)
    for setting, value in finished:
        study.add_trial(trial(setting, TrialState.COMPLETE, worst if value is None else value))
    for setting in pending:
        study.add_trial(trial(setting, TrialState.RUNNING))
    asked = [study.ask(spaces).params for _ in range(count)]
    return [{name: _inside(ranges[name], params[name]) for name in ranges} for params in asked]


def _worst(values: Sequence[float | None], direction: str) -> float:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return 0.0
    return min(finite) if direction == "maximize" else max(finite)


def _inside(interval: Range, value: float) -> float:
    """exp(log(x)) may leave the range by a rounding error."""
    return min(max(float(value), interval.low), interval.high)
