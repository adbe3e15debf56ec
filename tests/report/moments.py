"""Records of a study at many moments of its life, by name; made without training and without a database."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from synthetic_record import diverge, fail, synthetic_export, synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record, make_record
from hpo.analysis.results import StudyNumbers
from hpo.trials import CAUSES


def rows_of(export: dict[str, Any], name: str, phase: str) -> list[dict[str, Any]]:
    """The slots of one configuration and phase, in order."""
    return [row for row in export["slots"] if row["configuration"] == name and row["phase"] == phase]


def of_slots(curves: dict[str, list[Any]], ids: set[int]) -> dict[str, list[Any]]:
    """The curves of some slots."""
    keep = [slot in ids for slot in curves["slot_id"]]
    return {column: [v for v, k in zip(values, keep, strict=True) if k] for column, values in curves.items()}


def diverged(choose: Callable[[dict[str, Any]], bool], bounded: bool = True, epoch: int = 2, **options: Any) -> Record:
    """A finished study in which the slots that are chosen diverged."""
    export, curves = synthetic_export(**options)
    for row in export["slots"]:
        if choose(row):
            diverge(row, curves, bounded=bounded, epoch=epoch)
    return make_record(export, curves)


def one_configuration_failed() -> Record:
    export, curves = synthetic_export(names=("AdamW", "GNVR", "ROGC"))
    lost = [row for row in export["slots"] if row["configuration"] == "GNVR"]
    for row in lost:
        fail(export, row)
    return make_record(export, of_slots(curves, {row["id"] for row in export["slots"]} - {row["id"] for row in lost}))


def one_seed_diverged(bounded: bool = True) -> Record:
    return diverged(lambda row: row["seed"] == 1002 and row["configuration"] == "GNVR", bounded)


def one_rerun_failed() -> Record:
    export, curves = synthetic_export()
    fail(export, rows_of(export, "AdamW", "rerun")[3], "timeout")
    return make_record(export, curves)


def everything_failed() -> Record:
    export, curves = synthetic_export()
    for row in export["slots"]:
        fail(export, row)
    return make_record(export, {column: [] for column in curves})


def in_training() -> Record:
    export, curves = synthetic_export(finished_trials=3)
    for row in export["slots"][3:6]:
        row.update(state="leased", worker_id="worker-1", attempt=1, setting={"learning_rate": 1e-3}, lease_until=2e9)
    return make_record(export, curves)


def rival_before_the_baseline() -> Record:
    """All reruns of GNVR are finished, and AdamW is still tuned."""
    export, curves = synthetic_export(finished_trials=3)
    ahead, curves_ahead = synthetic_export()
    own = {row["id"]: row for row in ahead["slots"] if row["configuration"] == "GNVR"}
    export["slots"] = [own.get(row["id"], row) for row in export["slots"]]
    others = {row["id"] for row in export["slots"]} - own.keys()
    parts = (of_slots(curves, others), of_slots(curves_ahead, set(own)))
    return make_record(export, {column: [*parts[0][column], *parts[1][column]] for column in curves})


def no_worker_yet() -> Record:
    export, curves = synthetic_export(finished_trials=0)
    return make_record({**export, "workers": []}, curves)


def custom_metric_diverged() -> Record:
    """A custom metric, a diverged rerun, one failed for good, and seeds added after a report."""
    names = ("AdamW", "GNVR", "SAM")
    metrics = {"rank": {"kind": "rank"}, "size": {"kind": "size"}}
    export, curves = synthetic_export(names=names, score="validation_rank", direction="minimize", metrics=metrics)
    for row in export["slots"]:
        if row["result"]:
            row["result"] |= {f"{part}_rank": 2.5 + row["id"] / 100 for part in ("validation", "test")}
            row["result"] |= {"test_size": 0.25 if row["seed"] != 1003 else None}
            row["value"] = 2.5 + row["id"] / 100
    diverge(rows_of(export, "GNVR", "rerun")[1], curves, bounded=False)
    fail(export, rows_of(export, "SAM", "rerun")[2])
    export["study"]["notes"] = [
        {"time": 1.0, "event": "seeds raised from 3 to 5 after a report"},
        {"time": 2.0, "event": "trials raised from 4 to 8"},
        {"time": 3.0, "event": "the code of study.model changed"},
    ]
    return make_record(export, curves)


def every_cause_of_failure() -> Record:
    """GNVR: a trial and a rerun diverge, attempts of both end for each of the other causes, and one rerun fails."""
    export, curves = synthetic_export(names=("AdamW", "GNVR", "ROGC"))
    trials, reruns = rows_of(export, "GNVR", "tune"), rows_of(export, "GNVR", "rerun")
    diverge(trials[0], curves)
    diverge(reruns[0], curves)
    failures = [(trials[number], cause) for number, cause in enumerate(CAUSES[1:], start=1) for _ in range(number)]
    for row, cause in [*failures, (rows_of(export, "ROGC", "rerun")[-1], "timeout")]:
        failure = {"attempt": 1, "cause": cause, "message": "no", "setting": None, "time": 1.7e9}
        export["failures"].append(failure | {"slot_id": row["id"]})
    fail(export, reruns[1], "lost worker")
    return make_record(export, curves)


def pruned(pruned_slots: dict[str, list[int]], diverged_slots: dict[str, list[int]] | None = None) -> Record:
    """8 trials of 6 epochs; the pruned ones were stopped after 2, with scores above all others."""
    export, curves = synthetic_export(pruner={"kind": "SuccessiveHalving", "min_epochs": 2, "factor": 3})
    for name, slots in pruned_slots.items():
        for slot in slots:
            row = rows_of(export, name, "tune")[slot]
            row |= {"cause": "pruned", "value": 0.99, "result": {"epochs": 2, "validation_loss": 0.1, "population": 8}}
    for name, slots in (diverged_slots or {}).items():
        for slot in slots:
            diverge(rows_of(export, name, "tune")[slot], curves)
    return make_record(export, curves)


def two_rounds() -> Record:
    """GNVR was rerun again with another setting, after more trials."""
    export, curves = synthetic_export(accuracies={"GNVR": [0.5] * 5})
    for row in rows_of(export, "GNVR", "rerun"):
        newer = {**row, "id": row["id"] + 1000, "round": 1, "value": 0.7, "setting": {"learning_rate": 5e-4}}
        newer["result"] = {**row["result"], "test_accuracy": 0.7}
        export["slots"].append(newer)
    return make_record(export, curves)


def uneven_tuning_runs() -> Record:
    """Three tuning runs with 3, 1 and 1 seeds, as after their number was raised; populations differ, too."""
    export, curves = synthetic_export(accuracies={"GNVR": [0.5, 0.5, 0.5, 0.6, 0.8]})
    export["study"]["tuning_runs"] = 3
    for row in export["slots"]:
        row["tuning_run"] = [0, 0, 0, 1, 2][row["slot"]] if row["phase"] == "rerun" else row["slot"] % 3
        if row["phase"] == "rerun" and row["configuration"] == "GNVR":
            row["result"]["population"] = 2 + row["slot"] % 2
    return make_record(export, curves)


def at_the_edges() -> Record:
    """One hyperparameter of GNVR ends where it has no effect, one of ROGC at its high end; unequal budgets, too."""
    export, curves = synthetic_export(names=("AdamW", "GNVR", "ROGC"), score_epoch="best", tuning_epochs=3)
    for name, value in (("GNVR", 1.1e-3), ("ROGC", 9.0)):
        for row in rows_of(export, name, "tune"):
            row["setting"] = {**row["setting"], "lambda": value}
    _, gnvr, rogc = export["study"]["definition"]["configurations"]
    gnvr |= {"trials": 20, "prediction": "equivalent"}
    rogc |= {"prediction": None, "space": {**rogc["space"], "momentum": 0.8}}
    export["study"]["definition"]["data"]["split"] = "last"
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["result"]["changed_labels"] = 0
    return make_record(export, curves)


def chosen_at_the_edges() -> Record:
    """Five of ten tuning runs of GNVR choose the ends of two ranges, and all of ROGC the third; other trials do not."""
    export, curves = synthetic_export(names=("AdamW", "GNVR", "ROGC"), seeds=10, tuning_runs=10)
    ends = {"GNVR": (5, {"weight_decay": 1.1e-6, "lambda": 1.1e-3}), "ROGC": (10, {"learning_rate": 9.9e-3})}
    for name, (runs, values) in ends.items():
        for run in range(runs):
            trials = [row for row in rows_of(export, name, "tune") if row["tuning_run"] == run]
            best = max(trials, key=lambda row: row["value"])
            best["setting"] = best["setting"] | values
    return make_record(export, curves)


def without_scores() -> Record:
    """No trial of GNVR has a finite score, and two of AdamW have none; a rerun's test loss is not finite."""
    export, curves = synthetic_export(score="validation_loss", direction="minimize")
    for row in [*rows_of(export, "GNVR", "tune"), *rows_of(export, "AdamW", "tune")[:2]]:
        row |= {"value": None, "cause": "without a finite score"}
    rows_of(export, "GNVR", "rerun")[0]["result"]["test_loss"] = None
    return make_record(export, curves)


MOMENTS: dict[str, Callable[[], Record]] = {
    "nothing yet": no_worker_yet,
    "half-way tuning": in_training,
    "tuned, no reruns": lambda: synthetic_record(finished_reruns=0),
    "one rerun": lambda: synthetic_record(finished_reruns=1),
    "two reruns": lambda: synthetic_record(finished_reruns=2),
    "finished": synthetic_record,
    "one seed": lambda: synthetic_record(seeds=1),
    "two seeds": lambda: synthetic_record(seeds=2),
    "one hundred seeds": lambda: synthetic_record(seeds=100, trials=3, epochs=3),
    "twelve configurations": lambda: synthetic_record(names=["AdamW", *"abcdefghijk"], trials=4),
    "minimised score": lambda: synthetic_record(direction="minimize"),
    "one epoch, one trial": lambda: synthetic_record(epochs=1, trials=1),
    "no label noise": lambda: synthetic_record(label_noise=False),
    "fifty trials": lambda: synthetic_record(trials=50),
    "two tuning runs": lambda: synthetic_record(seeds=6, tuning_runs=2),
    "equivalent": lambda: planted(0.0002 + 0.001 * NOISE),
    "better in ten tuning runs": lambda: planted(0.05 + 0.01 * NOISE, tuning_runs=10),
    "one configuration failed": one_configuration_failed,
    "one seed diverged": one_seed_diverged,
    "one seed diverged, unbounded": lambda: one_seed_diverged(bounded=False),
    "everything diverged": lambda: diverged(lambda _: True, bounded=False, direction="minimize"),
    "one rerun failed": one_rerun_failed,
    "every trial of one configuration diverged": lambda: diverged(
        lambda row: row["configuration"] == "GNVR" and row["phase"] == "tune"
    ),
    "everything failed": everything_failed,
    "every rerun diverged at once": lambda: diverged(lambda row: row["phase"] == "rerun", epoch=1),
    "every cause of failure": every_cause_of_failure,
    "custom metric, one seed diverged": custom_metric_diverged,
    "pruned": lambda: pruned({"AdamW": [0, 1, 5], "GNVR": [2, 3, 4, 6]}),
    "pruned trials are all there is": lambda: pruned({"AdamW": [0, 1]}, {"AdamW": [2, 3, 4, 5, 6, 7]}),
    "two rounds of reruns": two_rounds,
    "uneven tuning runs": uneven_tuning_runs,
    "at the edges": at_the_edges,
    "chosen at the edges": chosen_at_the_edges,
    "without scores": without_scores,
    "the rival's reruns before the baseline's": rival_before_the_baseline,
    "odd names": lambda: synthetic_record(names=("a|b", "<b>$x$</b> *y* `z`", "_c_[d](e)&lt;")),
}


@cache
def record_of(moment: str) -> Record:
    """The record of a moment, made once."""
    return MOMENTS[moment]()


@cache
def numbers_of(moment: str) -> StudyNumbers:
    """The numbers of a moment, computed once."""
    return compute_numbers(record_of(moment))


NOISE = np.array([-1.2, 0.4, 0.9, -0.3, 0.6, -0.8, 1.1, -0.5, 0.2, -0.4])


def planted(difference: np.ndarray, **options: Any) -> Record:
    """A study in which GNVR differs from AdamW by `difference`, seed by seed."""
    baseline = 0.5 + 0.01 * np.arange(len(difference))
    accuracies = {"AdamW": baseline.tolist(), "GNVR": (baseline + difference).tolist()}
    return synthetic_record(seeds=len(difference), accuracies=accuracies, **options)
