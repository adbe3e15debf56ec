"""A synthetic study for tests: plausible numbers, planted truths, no training and no database."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpo.analysis.record import Record, make_record

Row = dict[str, Any]
METRICS = (
    *("train_loss", "validation_loss", "validation_accuracy"),
    *("noisy_labels_fitted", "noisy_labels_recovered", "clean_labels_fitted"),
)


def synthetic_export(
    names: Sequence[str] = ("AdamW", "GNVR"),
    trials: int = 8,
    seeds: int = 5,
    epochs: int = 6,
    finished_trials: int | None = None,
    finished_reruns: int | None = None,
    accuracies: Mapping[str, Sequence[float]] | None = None,
    direction: str = "maximize",
    label_noise: bool = True,
    tuning_runs: int = 1,
    draw: int = 7,
    **definition: Any,
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """What `Ledger.export()` and `curves.read()` would give.

    Args:
        names: configurations, the first one is the baseline. trials, seeds, epochs: as planned.
        finished_trials, finished_reruns: how many of them are done, of each configuration (default: all). There
            are no reruns before the trials are done.
        accuracies: name → test accuracy of every seed, to plant a difference.
        direction: "minimize" makes the score the validation loss.
        tuning_runs: tuning runs, each of so many trials, which share the reruns.
        draw: seeds settings and curves, so that other ones are other runs.
        definition: fields of the definition to set, such as margin or score_epoch.
    """
    generator = np.random.default_rng(draw)
    study = _study(names, trials, seeds, epochs, direction, definition) | {"tuning_runs": tuning_runs}
    slots: list[Row] = []
    curves: dict[str, list[Any]] = {"slot_id": [], "epoch": [], "metric": [], "value": []}
    done = trials if finished_trials is None else finished_trials
    for name in names:
        for tuning_run, slot in itertools.product(range(tuning_runs), range(trials)):
            row = _slot(len(slots), name, "tune", slot, tuning_run, slot < done) | {"tuning_run": tuning_run}
            if slot < done:
                row["setting"] = _setting(name, generator)
                _finish(row, curves, generator, epochs, label_noise, None)
                metric = "validation_loss" if direction == "minimize" else "validation_accuracy"
                row["value"] = row["result"][metric]
            slots.append(row)
    for name in names:
        settings = [_setting(name, generator) if done == trials else None for _ in range(tuning_runs)]
        for slot in range(seeds):
            finished = done == trials and (finished_reruns is None or slot < finished_reruns)
            row = _slot(len(slots), name, "rerun", slot, 1000 + slot, finished) | {"tuning_run": slot % tuning_runs}
            row["setting"] = settings[slot % tuning_runs]
            if finished:
                planted = accuracies[name][slot] if accuracies and name in accuracies else None
                _finish(row, curves, generator, epochs, label_noise, planted)
                row["value"] = row["result"]["test_accuracy"]
            slots.append(row)
    return {"study": study, "slots": slots, "failures": [], "workers": [_worker()]}, curves


def synthetic_record(**options: Any) -> Record:
    """`synthetic_export` as a Record."""
    return make_record(*synthetic_export(**options))


def diverge(row: Row, curves: dict[str, list[Any]], classes: int = 10, bounded: bool = True, epoch: int = 2) -> None:
    """Makes a finished slot one that diverged at an epoch, with the result and curves such a run leaves."""
    row["cause"], row["value"] = "diverged", 1 / classes if bounded else None
    row["result"] = {"diverged_epoch": epoch, "epochs": row["result"]["epochs"], "classes": classes, "population": 4}
    keep = [slot != row["id"] or at < epoch for slot, at in zip(curves["slot_id"], curves["epoch"], strict=True)]
    for column, values in curves.items():
        curves[column] = [value for value, kept in zip(values, keep, strict=True) if kept]


def fail(export: dict[str, Any], row: Row, cause: str = "exception") -> None:
    """Makes a slot one that ran out of attempts."""
    row.update(state="failed", cause=cause, value=None, result=None, seconds=None)
    for attempt in (1, 2):
        failure = {"attempt": attempt, "cause": cause, "message": "RuntimeError: no", "setting": row["setting"]}
        export["failures"].append({"slot_id": row["id"], "time": 1.7e9, **failure})


def _study(
    names: Sequence[str], trials: int, seeds: int, epochs: int, direction: str, changes: dict[str, Any]
) -> dict[str, Any]:
    definition = {
        "data": {"kind": "Mnist1d", "samples": 4000, "label_noise": 0.2 },
        "model": {"kind": "MLP", "widths": [40, 256, 256, 10]},
        "batch_size": 64, "epochs": epochs, "tuning_epochs": epochs,
        "score": "validation_loss" if direction == "minimize" else "validation_accuracy",
        "direction": direction, "score_epoch": "last", "schedule": {"kind": "Constant"},
        "margin": 0.01, "baseline": names[0],
        "configurations": [_configuration(name, name == names[0]) for name in names],
    } | changes  # fmt: skip
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return {
        "name": "synthetic", "definition": definition, "digest": hashlib.sha256(text.encode()).hexdigest(),
        "text": {"title": "A synthetic study", "hypothesis": "Planted differences are **found**."},
        "fingerprint": {}, "trials": trials, "seeds": seeds, "tuning_runs": 1, "created": 1.7e9, "notes": [],
    }  # fmt: skip


def _configuration(name: str, baseline: bool) -> dict[str, Any]:
    space: dict[str, Any] = {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "off": None},
        "weight_decay": {"low": 1e-6, "high": 1e-1, "log": True, "off": None},
        "momentum": 0.9,
    }
    if not baseline:
        space["lambda"] = {"low": 1e-3, "high": 10.0, "log": True, "off": "low"}
    return {
        "name": name, "optimizer": "adamw", "regularizer": "none" if baseline else "gnvr", "trials": None,
        "prediction": None if baseline else "better", "space": space,
    }  # fmt: skip


def _setting(name: str, generator: np.random.Generator) -> dict[str, float]:
    position = generator.uniform(0.3, 0.7, size=3)
    setting = {"learning_rate": 10 ** (-4 + 2 * position[0]), "weight_decay": 10 ** (-6 + 5 * position[1])}
    return setting if name == "AdamW" else {**setting, "lambda": float(10 ** (-3 + 4 * position[2]))}


def _slot(number: int, name: str, phase: str, slot: int, seed: int, finished: bool) -> Row:
    return {
        "id": number + 1, "configuration": name, "tuning_run": 0, "phase": phase, "round": 0, "slot": slot,
        "seed": seed,
        "state": "done" if finished else "open", "attempt": 1 if finished else 0,
        "worker_id": "worker-1" if finished else None, "lease_until": None, "setting": None, "value": None,
        "cause": None, "result": None, "seconds": None, "trial": slot if finished else None,
        "started": 1.7e9 if finished else None, "finished": 1.7e9 + 5 if finished else None,
    }  # fmt: skip


def _finish(
    row: Row,
    curves: dict[str, list[Any]],
    generator: np.random.Generator,
    epochs: int,
    label_noise: bool,
    test_accuracy: float | None,
) -> None:
    time = np.arange(1, epochs + 1) / epochs
    accuracy = 0.1 + 0.4 * (1 - np.exp(-4 * time)) + generator.normal(0, 0.015, epochs)
    series = {
        "train_loss": 2.3 * np.exp(-2 * time) * np.exp(generator.normal(0, 0.1, epochs)),
        "validation_loss": 2.3 - accuracy,
        "validation_accuracy": accuracy,
        "noisy_labels_fitted": 0.1 + 0.6 * time + generator.normal(0, 0.01, epochs),
        "noisy_labels_recovered": 0.4 * (1 - time) + 0.1 + generator.normal(0, 0.01, epochs),
        "clean_labels_fitted": 0.3 + 0.6 * time * accuracy[0],
    }
    kept = METRICS if label_noise else METRICS[:3]
    for metric in kept:
        curves["slot_id"] += [row["id"]] * epochs
        curves["epoch"] += range(1, epochs + 1)
        curves["metric"] += [metric] * epochs
        curves["value"] += series[metric].tolist()
    result: dict[str, Any] = {metric: float(series[metric][-1]) for metric in kept}
    result |= {"train_accuracy": 0.8, "training_samples": 2560, "validation_samples": 640, "classes": 10}
    result |= {"epochs": epochs, "population": 4, "steps": 40 * epochs}
    result["gradient_evaluations"] = 1.0 if row["configuration"] == "AdamW" else 2.0
    if label_noise:
        result["changed_labels"] = 460 + row["slot"]
    if row["phase"] == "rerun":
        drawn = float(accuracy[-1] + generator.normal(0, 0.01))
        result |= {"test_loss": 1.5, "test_accuracy": drawn if test_accuracy is None else test_accuracy}
        result["test_samples"] = 800
    row["result"], row["seconds"] = result, epochs * (0.2 if row["configuration"] == "AdamW" else 0.5)


def _worker() -> Row:
    environment = {
        "python": "3.11.2", "torch": "2.13.0", "optuna": "5.0.0", "hpo": "0.1.0",
        "platform": "Linux x86_64", "commit": "7770133",
    }  # fmt: skip
    return {
        "worker_id": "worker-1", "host": "box", "pid": 1, "device": "cpu", "environment": environment,
        "started": 1.7e9, "seen": 1.7e9 + 60,
    }  # fmt: skip
