"""Computes every number in a report's text from a record; all of them are stored in results.json."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hpo.analysis.comparisons import compare_planned, compare_unplanned
from hpo.analysis.descriptors import adjusted_memorisation
from hpo.analysis.effort import compute_effort
from hpo.analysis.metric import (
    ACCURACY,
    NOISY_LABELS,
    TRAIN_LOSS,
    Metric,
    further_metrics,
    gap_metric,
    metric_of,
    primary_metric,
    shown_metrics,
)  # fmt: skip
from hpo.analysis.paired_tests import summarise
from hpo.analysis.record import Record
from hpo.analysis.rerun_metrics import (
    by_seed,
    generalisation_gap,
    metric_summary,
    metric_values,
    rerun_scores,
    two_groups,
)  # fmt: skip
from hpo.analysis.results import (
    Compute,
    ConfigurationNumbers,
    Reruns,
    Samples,
    StepTime,
    StepTimes,
    StudyNumbers,
)  # fmt: skip
from hpo.analysis.selection import Row, failed_attempts, newest_reruns, rerun_curves, rounds_read
from hpo.analysis.smoothness import learning_rates, smoothness
from hpo.analysis.tuning_numbers import setting_choices, tuning_numbers
from hpo.diagnostics import QUANTITIES
from hpo.trials import DIVERGED


def compute_numbers(record: Record) -> StudyNumbers:
    """Computes a report's numbers; works at any stage of a study."""
    definition = record.study["definition"]
    metric = metric_of(definition)
    slots = {entry["name"]: newest_reruns(record, entry["name"]) for entry in definition["configurations"]}
    losses, scores = rerun_curves(record, "train_loss"), rerun_curves(record, definition["score"])
    all_reruns = [row for rows in slots.values() for row in rows]
    reported = {name for row in all_reruns if row["state"] == "done" for name in row["result"]}
    further = further_metrics(definition, reported)
    tuning = {entry["name"]: tuning_numbers(record, entry) for entry in definition["configurations"]}
    reruns = {name: _reruns(rows, record, name, metric, further, scores) for name, rows in slots.items()}
    choices = setting_choices(tuning, reruns, definition["direction"])
    configurations = []
    for entry in definition["configurations"]:
        name = entry["name"]
        rates = learning_rates(entry, reruns[name].settings)
        smooth = smoothness(losses[losses.configuration == name], reruns[name].diverged_seeds, rates)
        configurations.append(ConfigurationNumbers(name, tuning[name], reruns[name], smooth, choices[name]))
    comparisons = compare_planned(record.study, configurations)
    return StudyNumbers(
        study=record.study,
        metric=metric,
        samples=_samples([row for row in all_reruns if row["state"] == "done"]),
        configurations=configurations,
        rivals=[entry for entry in comparisons if entry.against == definition["baseline"]],
        planned=[entry for entry in comparisons if entry.against != definition["baseline"]],
        pairs=compare_unplanned(record.study, configurations),
        tuning_seeds=_tuning_seeds(record),
        rerun_seeds=sorted({row["seed"] for row in all_reruns}),
        environments=_environments(record),
        compute=_compute(record),
        effort=compute_effort(record, {each.name: each.reruns.gradient_evaluations.mean for each in configurations}),
        step_times=_step_times(record.study.get("step_times")),
    )


def _step_times(stored: Mapping[str, Any] | None) -> StepTimes | None:
    return StepTimes(**{**stored, "rows": [StepTime(**row) for row in stored["rows"]]}) if stored else None


def _compute(record: Record) -> Compute:
    done = record.slots[record.slots.state == "done"]
    per_trial = record.study["definition"].get("seeds_per_trial", 1)
    epochs, evaluations, known = 0, 0.0, True
    for phase, result in zip(done["phase"], done["result"], strict=True):
        numbers = result if isinstance(result, dict) else {}
        models = 1 if phase == "rerun" else per_trial
        epochs += int(numbers.get("epochs") or 0) * models
        known &= "gradient_evaluations" in numbers
        evaluations += numbers.get("steps", 0) * numbers.get("gradient_evaluations", 0) * models
    times = (float(done["seconds"].sum()), float(done["started"].min()), float(done["finished"].max()))
    return Compute(epochs, round(evaluations) if known else None, *times)


def _tuning_seeds(record: Record) -> list[int]:
    models = record.study["definition"].get("seeds_per_trial", 1)
    first_seeds = sorted({int(seed) for seed in record.slots[record.slots.phase == "tune"].seed})
    return [first + number for first in first_seeds for number in range(models)]


def _reruns(
    slots: list[Row], record: Record, name: str, metric: Metric, further: list[Metric], scores: pd.DataFrame
) -> Reruns:
    done = [row for row in slots if row["state"] == "done"]
    trained = [row for row in done if row["cause"] != DIVERGED]
    definition = record.study["definition"]
    accuracy, fitted = by_seed(trained, ACCURACY.name), by_seed(trained, NOISY_LABELS.name)
    classes = next((row["result"]["classes"] for row in done if row["result"].get("classes")), 0)
    adjusted = [adjusted_memorisation(fitted[seed], accuracy[seed], classes) for seed in fitted if classes > 1]
    settings: list[dict[str, float]] = []
    for row in slots:
        if row["setting"] and row["setting"] not in settings:
            settings.append(row["setting"])
    tuning_run_by_seed = {row["seed"]: row["tuning_run"] + 1 for row in slots}
    primary = primary_metric(definition)
    compared = metric_values(done, metric, primary, classes)
    built_in = {entry.name: entry for entry in (primary, *further)}
    test_metrics = {name: metric_values(done, entry, primary, classes) for name, entry in built_in.items()}
    losses, gaps = by_seed(trained, TRAIN_LOSS.name), generalisation_gap(trained, primary)
    averaged = {  # the quantities whose mean the results show
        metric: compared,
        **{other: test_metrics[other.name] for other in shown_metrics(further, classes)},
        TRAIN_LOSS: losses,
        gap_metric(definition): gaps,
        NOISY_LABELS: fitted,
    }
    return Reruns(
        planned=record.study["seeds"],
        finished=len(done),
        diverged_seeds=[row["seed"] for row in done if row["cause"] == DIVERGED],
        failed_seeds=[row["seed"] for row in slots if row["state"] == "failed"],
        failed_attempts=failed_attempts(record, name, "rerun"),
        rounds_read=rounds_read(record, name),
        settings=settings,
        metric_values=compared,
        metric_summary=metric_summary(compared, tuning_run_by_seed, record.study["tuning_runs"]),
        scores=rerun_scores(slots, scores[scores.configuration == name], definition),
        test_metrics=test_metrics,
        train_loss=summarise(list(losses.values())),
        generalisation_gap=summarise(list(gaps.values())),
        memorised=summarise(list(fitted.values())),
        recovered=summarise(list(by_seed(trained, "noisy_labels_recovered").values())),
        adjusted_memorisation=summarise(adjusted),
        seconds_per_epoch=summarise([row["seconds"] / row["result"]["epochs"] for row in trained if _is_timed(row)]),
        populations=sorted({row["result"]["population"] for row in trained if row["result"].get("population")}),
        noisy_labels_fitted=fitted,
        custom_metrics={
            custom: by_seed(trained, f"test_{custom}") for custom in record.study["definition"].get("metrics", ())
        },
        diagnostics={key: values for key in QUANTITIES if (values := by_seed(trained, key))},
        gradient_evaluations=summarise(list(by_seed(trained, "gradient_evaluations").values())),
        parameters=_distinct(done, "parameters"),
        untrained_parameters=_distinct(done, "untrained_parameters"),
        tuning_run_by_seed=tuning_run_by_seed,
        two_groups=two_groups(averaged, metric, tuning_run_by_seed, record.study),
    )


def _distinct(done: list[Row], key: str) -> list[int]:
    return sorted({int(value) for value in by_seed(done, key).values()})


def _is_timed(row: Row) -> bool:
    return bool(row["result"].get("epochs")) and not np.isnan(row["seconds"])


def _samples(done: list[Row]) -> Samples:
    def first(key: str) -> int | None:
        return next((int(value) for value in by_seed(done, key).values()), None)

    changed = {seed: int(count) for seed, count in by_seed(done, "changed_labels").items()}
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
    environments: list[dict[str, Any]] = []
    for row in (active if len(active) else workers).to_dict("records"):
        versions = dict(row["environment"]) if isinstance(row["environment"], dict) else {}
        versions.pop("data", None)  # a description of its samples, the same for all
        entry = {"device": row["device"], **versions}
        if entry not in environments:
            environments.append(entry)
    return environments
