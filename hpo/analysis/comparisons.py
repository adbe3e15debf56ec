"""Rivals: every configuration against the baseline, and two by two, paired by seed or by tuning run."""

from itertools import combinations
from typing import Any

from hpo.analysis.metric import metric_of
from hpo.analysis.paired_tests import Comparison, compare
from hpo.analysis.results import ConfigurationNumbers, Pair, Reruns, Rival
from hpo.analysis.smoothness import same_learning_rate
from hpo.analysis.verdicts import MIN_PAIRS, Verdict, by_tuning_run, family_verdicts, prediction_outcome


def compare_rivals(
    definition: dict[str, Any], configurations: list[ConfigurationNumbers], tuning_runs: int
) -> list[Rival]:
    """Judges every configuration but the baseline, as one family of tests."""
    predictions = {entry["name"]: entry.get("prediction") for entry in definition["configurations"]}
    baseline = next(entry for entry in configurations if entry.name == definition["baseline"])
    others = [entry for entry in configurations if entry is not baseline]
    verdicts = _verdicts({entry.name: (entry, baseline) for entry in others}, definition, tuning_runs)
    rivals = []
    for entry in others:
        verdict, prediction = verdicts[entry.name], predictions[entry.name]
        rivals.append(
            Rival(
                name=entry.name,
                prediction=prediction,
                verdict=verdict,
                outcome=prediction_outcome(prediction, verdict) if prediction else None,
                memorisation=_outside(
                    entry.reruns.noisy_labels_fitted, baseline.reruns.noisy_labels_fitted, entry.reruns, tuning_runs
                ),
                roughness=_outside(
                    entry.smoothness.roughness, baseline.smoothness.roughness, entry.reruns, tuning_runs
                ),
                same_learning_rate=same_learning_rate(entry.smoothness, baseline.smoothness),
                custom_metrics={
                    metric: compare(*_paired(values, baseline.reruns.custom_metrics[metric], entry.reruns, tuning_runs))
                    for metric, values in entry.reruns.custom_metrics.items()
                },
                cost_ratio=entry.reruns.seconds_per_epoch.mean / baseline.reruns.seconds_per_epoch.mean,
            )
        )
    return rivals


def compare_rival_pairs(
    definition: dict[str, Any], configurations: list[ConfigurationNumbers], tuning_runs: int
) -> list[Pair]:
    """Every two rivals with each other, the one that the study names later less the earlier; outside the family.

    A rival is often there to tell what a part of another one is worth, which the baseline cannot tell.
    """
    rivals = [entry for entry in configurations if entry.name != definition["baseline"]]
    found = []
    for other, one in combinations(rivals, 2):
        verdict = _verdicts({one.name: (one, other)}, definition, tuning_runs)[one.name]
        own = verdict.comparison
        found.append(
            Pair(one.name, other.name, verdict.reason, verdict.diverged, own.n, own.won, own.mean, own.interval)
        )
    return found


def _verdicts(
    sides: dict[str, tuple[ConfigurationNumbers, ConfigurationNumbers]], definition: dict[str, Any], tuning_runs: int
) -> dict[str, Verdict]:
    """Verdicts by name on one configuration against another, all of them one family of tests."""
    verdicts = family_verdicts(
        {
            name: _paired(one.reruns.metric_values, other.reruns.metric_values, one.reruns, tuning_runs)
            for name, (one, other) in sides.items()
        },
        definition["margin"],
        metric_of(definition).direction,
        diverged={name: sum(len(side.reruns.diverged_seeds) for side in both) for name, both in sides.items()},
        tuning_runs=tuning_runs,
    )
    for name, both in sides.items():
        verdict = verdicts[name]
        lost = [side.name for side in both if side.tuning.failed]
        if verdict.rule == 1 and lost:
            verdicts[name] = verdict._replace(reason=f"tuning failed for {' and '.join(lost)}")
        if verdict.rule == 2 and all(_all_diverged(side.reruns) for side in both):
            verdicts[name] = verdict._replace(word="no verdict", rule=1, reason="every rerun of both diverged")
        undefined, total = _undefined([side.reruns for side in both])
        if verdict.rule == 1 and undefined and not lost:
            also = f", and {verdict.diverged} diverged" if verdict.diverged else ""
            reason = f"{metric_of(definition).label} is not finite for {undefined} of {total} reruns{also}"
            verdicts[name] = verdict._replace(reason=reason)
    return verdicts


def _paired(
    left: dict[int, float], right: dict[int, float], rival: Reruns, tuning_runs: int
) -> tuple[dict[int, float], dict[int, float]]:
    """Both sides of a comparison by unit: the seed, or with several tuning runs the mean of each tuning run.

    Args:
        left, right: the values of `rival` and of the baseline by seed.
    """
    return (left, right) if tuning_runs == 1 else by_tuning_run(left, right, rival.tuning_run_by_seed)


def _outside(left: dict[int, float], right: dict[int, float], rival: Reruns, tuning_runs: int) -> Comparison | None:
    """A comparison outside the family, of values of which less is better; None below three pairs."""
    pair = _paired(left, right, rival, tuning_runs)
    return compare(*pair, direction="minimize") if len(pair[0].keys() & pair[1].keys()) >= MIN_PAIRS else None


def _undefined(sides: list[Reruns]) -> tuple[int, int]:
    """Of the seeds that both sides have: reruns without a value of the metric that did not diverge, and all of them."""
    shared = set.intersection(*(set(side.metric_values) for side in sides))
    return sum(len(shared.intersection(side.undefined_seeds)) for side in sides), len(shared) * len(sides)


def _all_diverged(reruns: Reruns) -> bool:
    return 0 < reruns.finished == len(reruns.diverged_seeds)
