"""Comparisons of a study's configurations with the baseline and with each other, paired by seed or tuning run."""

from itertools import combinations
from typing import Any

from hpo.analysis.metric import metric_of
from hpo.analysis.paired_tests import Comparison, compare
from hpo.analysis.results import ConfigurationNumbers, Pair, Reruns, Rival
from hpo.analysis.smoothness import same_learning_rate
from hpo.analysis.verdicts import MIN_PAIRS, Verdict, by_tuning_run, family_verdicts, prediction_outcome

Sides = tuple[ConfigurationNumbers, ConfigurationNumbers]


def compare_rivals(study: dict[str, Any], configurations: list[ConfigurationNumbers]) -> list[Rival]:
    """Compares every other configuration with the baseline, as one family of tests."""
    definition, tuning_runs = study["definition"], study["tuning_runs"]
    predictions = {entry["name"]: entry.get("prediction") for entry in definition["configurations"]}
    baseline = next(entry for entry in configurations if entry.name == definition["baseline"])
    others = [entry for entry in configurations if entry is not baseline]
    verdicts = _verdicts({entry.name: (entry, baseline) for entry in others}, study)
    rivals = []
    for entry in others:
        verdict, prediction = verdicts[entry.name], predictions[entry.name]
        reruns, reference = entry.reruns, baseline.reruns
        fitted = _paired(reruns.noisy_labels_fitted, reference.noisy_labels_fitted, reruns, tuning_runs)
        roughness = _paired(entry.smoothness.roughness, baseline.smoothness.roughness, reruns, tuning_runs)
        custom_metrics = {
            metric: compare(*_paired(values, reference.custom_metrics[metric], reruns, tuning_runs))
            for metric, values in reruns.custom_metrics.items()
        }
        rivals.append(
            Rival(
                name=entry.name,
                prediction=prediction,
                verdict=verdict,
                outcome=prediction_outcome(prediction, verdict) if prediction else None,
                memorisation=_compare_minimised(*fitted),
                roughness=_compare_minimised(*roughness),
                same_learning_rate=same_learning_rate(entry.smoothness, baseline.smoothness),
                custom_metrics=custom_metrics,
                cost_ratio=reruns.seconds_per_epoch.mean / reference.seconds_per_epoch.mean,
            )
        )
    return rivals


def compare_rival_pairs(study: dict[str, Any], configurations: list[ConfigurationNumbers]) -> list[Pair]:
    """Compares every two rivals, the later one in the study less the earlier one, outside the family of tests.

    A rival is often there to show what a part of another one contributes, which the baseline cannot show.
    """
    rivals = [entry for entry in configurations if entry.name != study["definition"]["baseline"]]
    pairs = []
    for earlier, later in combinations(rivals, 2):
        verdict = _verdicts({later.name: (later, earlier)}, study)[later.name]
        n, won, _, mean, _, interval, *_ = verdict.comparison
        pairs.append(Pair(later.name, earlier.name, verdict.reason, verdict.diverged, n, won, mean, interval))
    return pairs


def _verdicts(sides: dict[str, Sides], study: dict[str, Any]) -> dict[str, Verdict]:
    """Verdicts by name on one configuration against another, as one family of tests."""
    definition, tuning_runs = study["definition"], study["tuning_runs"]
    metric = metric_of(definition)
    verdicts = family_verdicts(
        {
            name: _paired(one.reruns.metric_values, other.reruns.metric_values, one.reruns, tuning_runs)
            for name, (one, other) in sides.items()
        },
        definition["margin"],
        metric.direction,
        diverged={name: sum(len(side.reruns.diverged_seeds) for side in both) for name, both in sides.items()},
        tuning_runs=tuning_runs,
    )
    return {name: _with_reason(verdict, sides[name], metric.label) for name, verdict in verdicts.items()}


def _with_reason(verdict: Verdict, sides: Sides, label: str) -> Verdict:
    """The verdict with the first reason why there is none: failed tuning, diverged reruns, or undefined metrics."""
    reruns = [side.reruns for side in sides]
    failed = [side.name for side in sides if side.tuning.failed]
    if verdict.rule == 1 and failed:
        return verdict._replace(reason=f"tuning failed for {' and '.join(failed)}")
    if verdict.rule == 2 and all(0 < side.finished == len(side.diverged_seeds) for side in reruns):
        return verdict._replace(word="no verdict", rule=1, reason="every rerun of both diverged")
    shared = set.intersection(*(set(side.metric_values) for side in reruns))
    undefined = sum(len(shared.intersection(side.undefined_seeds)) for side in reruns)
    if verdict.rule == 1 and undefined:
        diverged = f", and {verdict.diverged} diverged" if verdict.diverged else ""
        reason = f"{label} is not finite for {undefined} of {len(shared) * len(reruns)} reruns{diverged}"
        return verdict._replace(reason=reason)
    return verdict


def _paired(
    left: dict[int, float], right: dict[int, float], rival: Reruns, tuning_runs: int
) -> tuple[dict[int, float], dict[int, float]]:
    """Both sides of a comparison by seed, or with several tuning runs the mean of each tuning run.

    Args:
        left, right: the values of `rival` and of the baseline by seed.
    """
    return (left, right) if tuning_runs == 1 else by_tuning_run(left, right, rival.tuning_run_by_seed)


def _compare_minimised(left: dict[int, float], right: dict[int, float]) -> Comparison | None:
    """A comparison outside the family, of values of which less is better; None with too few pairs."""
    enough = len(left.keys() & right.keys()) >= MIN_PAIRS
    return compare(left, right, direction="minimize") if enough else None
