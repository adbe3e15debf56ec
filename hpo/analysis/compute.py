"""Numbers: every figure that stands in a report's text, computed from a record and stored in results.json."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpo.analysis.comparisons import compare_rival_pairs, compare_rivals
from hpo.analysis.descriptors import adjusted_memorisation, range_position
from hpo.analysis.metric import Metric, metric_of
from hpo.analysis.paired_tests import Summary, summarise, t_interval
from hpo.analysis.record import Record
from hpo.analysis.results import BestTrial, ConfigurationNumbers, Reruns, Samples, StudyNumbers, Tuning
from hpo.analysis.selection import (
    DIVERGED,
    NO_SCORE,
    PRUNED,
    Row,
    newest_reruns,
    ranked,
    rerun_curves,
    rounds_read,
    tuning_slots,
)
from hpo.analysis.smoothness import learning_rates, smoothness
from hpo.analysis.verdicts import tuning_run_means
from hpo.search_space import split_space


def compute_numbers(record: Record) -> StudyNumbers:
    """Computes a report's numbers; works at every moment of a study."""
    definition = record.study["definition"]
    metric = metric_of(definition)
    runs = {entry["name"]: newest_reruns(record, entry["name"]) for entry in definition["configurations"]}
    losses = rerun_curves(record, "train_loss")
    configurations = []
    for entry in definition["configurations"]:
        reruns = _reruns(runs[entry["name"]], record, entry["name"], metric)
        rates = learning_rates(entry, reruns.settings)
        even = smoothness(losses[losses.configuration == entry["name"]], reruns.diverged_seeds, rates)
        configurations.append(ConfigurationNumbers(entry["name"], _tuning(record, entry), reruns, even))
    return StudyNumbers(
        study=record.study,
        metric=metric,
        samples=_samples([row for group in runs.values() for row in group]),
        configurations=configurations,
        rivals=compare_rivals(definition, configurations, record.study["tuning_runs"]),
        pairs=compare_rival_pairs(definition, configurations, record.study["tuning_runs"]),
        tuning_seeds=_tuning_seeds(record),
        rerun_seeds=sorted({row["seed"] for group in runs.values() for row in group}),
        environments=_environments(record),
    )


def _tuning_seeds(record: Record) -> list[int]:
    models = record.study["definition"].get("seeds_per_trial", 1)
    firsts = sorted({int(seed) for seed in record.slots[record.slots.phase == "tune"].seed})
    return [first + number for first in firsts for number in range(models)]


def _tuning(record: Record, entry: Mapping[str, Any]) -> Tuning:
    definition = record.study["definition"]
    trials = tuning_slots(record, entry["name"])
    best_first = ranked(trials, definition["direction"])
    ranges, _ = split_space(entry["space"])
    tuning_runs = sorted({row["tuning_run"] for row in best_first})
    searches = [[row for row in best_first if row["tuning_run"] == tuning_run] for tuning_run in tuning_runs]
    return Tuning(
        planned=(entry.get("trials") or record.study["trials"]) * record.study["tuning_runs"],
        finished=sum(row["state"] == "done" for row in trials),
        diverged=sum(row["cause"] == DIVERGED for row in trials),
        pruned=sum(row["cause"] == PRUNED for row in trials),
        without_score=sum(row["cause"] == NO_SCORE for row in trials),
        epochs=sum(int(row["result"].get("epochs") or 0) for row in trials if row["state"] == "done"),
        failed=sum(row["state"] == "failed" for row in trials),
        failed_attempts=_failed_attempts(record, entry["name"], "tune"),
        best=[BestTrial(row["tuning_run"], row["slot"], row["value"], row["setting"]) for row, *_ in searches],
        range_positions={
            name: range_position(bounds, *values)
            for name, bounds in ranges.items()
            if sum(map(len, values := [_settings(search, name) for search in searches])) >= 3
        },
    )


def _settings(search: list[Row], name: str) -> list[float]:
    return [row["setting"][name] for row in search if name in row["setting"]]


def _reruns(slots: list[Row], record: Record, name: str, metric: Metric) -> Reruns:
    done = [row for row in slots if row["state"] == "done"]
    whole = [row for row in done if row["cause"] != DIVERGED]
    accuracy = _by_seed(whole, "test_accuracy")
    fitted = _by_seed(whole, "noisy_labels_fitted")
    classes = next((row["result"]["classes"] for row in whole if row["result"].get("classes")), None)
    adjusted = [
        adjusted_memorisation(fitted[seed], accuracy[seed], classes) for seed in fitted if classes and classes > 1
    ]
    settings: list[dict[str, float]] = []
    for row in slots:
        if row["setting"] and row["setting"] not in settings:
            settings.append(row["setting"])
    train = _by_seed(whole, "train_accuracy")
    metric_values = _metric_values(done, metric)
    return Reruns(
        planned=record.study["seeds"],
        finished=len(done),
        diverged_seeds=[row["seed"] for row in done if row["cause"] == DIVERGED],
        failed_seeds=[row["seed"] for row in slots if row["state"] == "failed"],
        failed_attempts=_failed_attempts(record, name, "rerun"),
        rounds_read=rounds_read(record, name),
        settings=settings,
        metric_values=metric_values,
        metric_summary=_metric_summary(
            metric_values, {row["seed"]: row["tuning_run"] for row in done}, record.study["tuning_runs"]
        ),
        test_accuracy={row["seed"]: float(row["value"]) for row in done},
        accuracy=summarise([row["value"] for row in done]),
        train_loss=summarise(list(_by_seed(whole, "train_loss").values())),
        generalisation_gap=summarise([train[seed] - accuracy[seed] for seed in train.keys() & accuracy.keys()]),
        memorised=summarise(list(fitted.values())),
        recovered=summarise(list(_by_seed(whole, "noisy_labels_recovered").values())),
        adjusted_memorisation=summarise(adjusted),
        seconds_per_epoch=summarise([row["seconds"] / row["result"]["epochs"] for row in whole if _timed(row)]),
        populations=sorted({row["result"]["population"] for row in whole if row["result"].get("population")}),
        noisy_labels_fitted=fitted,
        custom_metrics={own: _by_seed(whole, f"test_{own}") for own in record.study["definition"].get("metrics", ())},
        tuning_run_by_seed={row["seed"]: row["tuning_run"] for row in slots},
    )


def _metric_values(done: list[Row], metric: Metric) -> dict[int, float]:
    """The verdict's metric by seed; a rerun without it has NaN, which a comparison counts."""
    if metric.name == "test_accuracy":  # stored as the rerun's value, where a diverged one has that of guessing
        return {row["seed"]: float(row["value"]) for row in done}
    found = _by_seed([row for row in done if row["cause"] != DIVERGED], metric.name)
    return {row["seed"]: found.get(row["seed"], float("nan")) for row in done}


def _metric_summary(
    metric_values: Mapping[int, float], tuning_run_by_seed: Mapping[int, int], tuning_runs: int
) -> Summary:
    """Mean, SD over the seeds, and interval; with several tuning runs mean and interval are of their means.

    Seeds of one tuning run share its luck of tuning, which an interval over seeds alone would not cover.
    """
    summary = summarise(list(metric_values.values()))
    if tuning_runs == 1:
        return summary
    means = list(
        tuning_run_means({seed: v for seed, v in metric_values.items() if np.isfinite(v)}, tuning_run_by_seed).values()
    )
    return summary._replace(mean=float(np.mean(means)) if means else summary.mean, interval=t_interval(means))


def _failed_attempts(record: Record, name: str, phase: str) -> dict[str, int]:
    slots = record.slots[(record.slots.configuration == name) & (record.slots.phase == phase)]
    return dict(sorted(Counter(record.failures[record.failures.slot_id.isin(slots.id)].cause).items()))


def _timed(row: Row) -> bool:
    return bool(row["result"].get("epochs")) and row["seconds"] == row["seconds"]


def _by_seed(slots: list[Row], metric: str) -> dict[int, float]:
    return {row["seed"]: float(row["result"][metric]) for row in slots if row["result"].get(metric) is not None}


def _samples(reruns: list[Row]) -> Samples:
    results = [row["result"] for row in reruns if row["state"] == "done"]

    def first(key: str) -> int | None:
        return next((int(result[key]) for result in results if result.get(key) is not None), None)

    changed = {
        row["seed"]: int(row["result"]["changed_labels"])
        for row in reruns
        if row["state"] == "done" and row["result"].get("changed_labels") is not None
    }
    return Samples(
        training=first("training_samples"),
        validation=first("validation_samples"),
        test=first("test_samples"),
        classes=first("classes"),
        changed_labels=changed,
        changed_mean=float(np.mean(list(changed.values()))) if changed else float("nan"),
        changed_low=min(changed.values(), default=0),
        changed_high=max(changed.values(), default=0),
    )


def _environments(record: Record) -> list[dict[str, Any]]:
    """The distinct machines and versions among the workers that finished something (all, if none has)."""
    workers = record.workers
    active = workers[workers.worker_id.isin(record.slots[record.slots.state == "done"].worker_id)]
    chosen = active if len(active) else workers
    environments: list[dict[str, Any]] = []
    for row in chosen.to_dict("records"):
        versions = dict(row["environment"]) if isinstance(row["environment"], dict) else {}
        versions.pop("data", None)  # what its samples are like, the same for all
        entry = {"device": row["device"], **versions}
        if entry not in environments:
            environments.append(entry)
    return environments
