"""Comparisons of a study's configurations with the baseline and with each other, paired by seed or tuning run."""

from itertools import combinations
from typing import Any

from hpo.analysis.metric import metric_of
from hpo.analysis.paired_tests import Comparison, compare
from hpo.analysis.results import ConfigurationNumbers, Pair, Reruns, Rival
from hpo.analysis.smoothness import same_learning_rate
from hpo.analysis.verdicts import MIN_PAIRS, Verdict, by_tuning_run, family_verdicts, prediction_outcome

Sides = tuple[ConfigurationNumbers, ConfigurationNumbers]
Names = tuple[str, str]
ByName = dict[str, dict[int, float]]


def compare_planned(study: dict[str, Any], configurations: list[ConfigurationNumbers]) -> list[Rival]:
    """Every planned comparison, with the baseline or with the configurations of `against`, as one family of tests."""
    entries = {entry.name: entry for entry in configurations}
    predictions = _planned(study["definition"])
    verdicts = _verdicts({(name, other): (entries[name], entries[other]) for name, other in predictions}, study)
    return [
        _rival(entries[name], entries[other], verdicts[name, other], prediction, study["tuning_runs"])
        for (name, other), prediction in predictions.items()
    ]


def _planned(definition: dict[str, Any]) -> dict[Names, str | None]:
    """(configuration, what it is compared with) → the author's prediction; those with the baseline come first."""
    baseline, entries = definition["baseline"], definition["configurations"]
    planned = {(entry["name"], baseline): entry.get("prediction") for entry in entries if entry["name"] != baseline}
    for entry in entries:
        planned |= {(entry["name"], other): prediction for other, prediction in entry.get("against", {}).items()}
    return planned


def _rival(
    entry: ConfigurationNumbers, other: ConfigurationNumbers, verdict: Verdict, prediction: str | None, tuning_runs: int
) -> Rival:
    reruns, reference = entry.reruns, other.reruns
    fitted = _paired(reruns.noisy_labels_fitted, reference.noisy_labels_fitted, reruns, tuning_runs)
    roughness = _paired(entry.smoothness.roughness, other.smoothness.roughness, reruns, tuning_runs)

    def compared(own: ByName, others: ByName) -> dict[str, Comparison]:
        return {
            metric: compare(*_paired(values, others.get(metric, {}), reruns, tuning_runs))
            for metric, values in own.items()
        }

    return Rival(
        name=entry.name,
        against=other.name,
        prediction=prediction,
        verdict=verdict,
        outcome=prediction_outcome(prediction, verdict) if prediction else None,
        memorisation=_compare_minimised(*fitted),
        roughness=_compare_minimised(*roughness),
        same_learning_rate=same_learning_rate(entry.smoothness, other.smoothness),
        custom_metrics=compared(reruns.custom_metrics, reference.custom_metrics),
        diagnostics=compared(reruns.diagnostics, reference.diagnostics),
    )


def compare_unplanned(study: dict[str, Any], configurations: list[ConfigurationNumbers]) -> list[Pair]:
    """Compares every two rivals that no comparison is planned for, the later one in the study less the earlier one.

    They are outside the family of tests. A rival is often there to show what a part of another one contributes, which
    the baseline cannot show.
    """
    definition = study["definition"]
    rivals = [entry for entry in configurations if entry.name != definition["baseline"]]
    planned = {frozenset(names) for names in _planned(definition)}
    pairs = []
    for earlier, later in combinations(rivals, 2):
        if {later.name, earlier.name} in planned:
            continue
        [verdict] = _verdicts({(later.name, earlier.name): (later, earlier)}, study).values()
        n, won, tied, mean, _, interval, *_ = verdict.comparison
        pairs.append(Pair(later.name, earlier.name, verdict.reason, verdict.diverged, n, won, tied, mean, interval))
    return pairs


def _verdicts(sides: dict[Names, Sides], study: dict[str, Any]) -> dict[Names, Verdict]:
    """Verdicts on one configuration against another, as one family of tests."""
    definition, tuning_runs = study["definition"], study["tuning_runs"]
    metric = metric_of(definition)
    verdicts = family_verdicts(
        {
            names: _paired(one.reruns.metric_values, other.reruns.metric_values, one.reruns, tuning_runs)
            for names, (one, other) in sides.items()
        },
        definition["margin"],
        metric.direction,
        diverged={names: sum(len(side.reruns.diverged_seeds) for side in both) for names, both in sides.items()},
        tuning_runs=tuning_runs,
    )
    return {names: _with_reason(verdict, sides[names], metric.label) for names, verdict in verdicts.items()}


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
