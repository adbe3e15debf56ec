"""What the programs share: their options, and a study whose results are made up instead of trained.

The study has a name that nobody else uses and is deleted before and after a benchmark.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import numpy as np
from synthetic_record import synthetic_export

from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, open_study
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.optuna.studies import delete_study
from hpo.trials import Outcome, Setting, Work

NAME = "hpo-bench"
OWNER = "benchmark"
METRICS = ("train_loss", "validation_loss", "validation_accuracy", "noisy_labels_fitted", "clean_labels_fitted")
EPOCHS = 30
SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True, "off": None},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True, "off": None},
    "strength": {"low": 1e-3, "high": 1.0, "log": True, "off": None},
    "momentum": {"low": 0.0, "high": 0.99, "log": False, "off": None},
}


@contextmanager
def temporary_study(
    url: str, trials: int, seeds: int = 1, configurations: int = 1, sampler: str = "tpe"
) -> Iterator[Ledger]:
    """A study whose configurations have four tuned hyperparameters each."""
    engine = connect(url)
    titles = [f"A{number}" for number in range(configurations)]
    common = {"optimizer": "adamw", "regularizer": "none", "prediction": None, "trials": None}
    entries = [{"name": title, **common, "space": SPACE} for title in titles]
    delete_study(engine, NAME)
    try:
        study = synthetic_export(titles, epochs=EPOCHS, configurations=entries)[0]["study"]
        definition = study["definition"] | {"sampler": sampler}
        planned, text = (
            {"trials": trials, "seeds": seeds, "tuning_runs": 1},
            {"title": NAME, "hypothesis": "", "command": ""},
        )
        yield open_study(engine, NAME, definition, study["digest"], planned, text, {})
    finally:
        delete_study(engine, NAME)
        engine.dispose()


def enlarge(ledger: Ledger, trials: int) -> Ledger:
    """The same study with this number of trials of every configuration."""
    planned = {"trials": trials}
    return open_study(
        ledger.engine, NAME, ledger.definition, ledger.digest, planned, ledger.text, ledger.fingerprint, planned
    )


def lease(ledger: Ledger, count: int) -> Work:
    work = ledger.lease(OWNER, count)
    assert work is not None, "the benchmark's study has too few slots"
    return work


def spread_settings(work: Work) -> list[Setting]:
    """Settings for the slots that have none, spread over the ranges without any sampler."""
    return [
        {
            name: bounds["low"] + (bounds["high"] - bounds["low"]) * ((slot.slot + 1) * (0.6180339887 + place) % 1)
            for place, (name, bounds) in enumerate(SPACE.items())
        }
        for slot in work.slots
        if slot.setting is None
    ]


def outcomes(work: Work, with_curves: bool = True) -> list[Outcome]:
    """Results as of training for 30 epochs; the accuracy follows from the slot."""
    results = []
    for slot in work.slots:
        accuracy = (slot.slot * 0.7548776662) % 1
        curve = accuracy * (1 - np.exp(-np.arange(1, EPOCHS + 1) / 10))
        result: dict[str, Any] = dict.fromkeys(METRICS, accuracy)
        result |= {"train_accuracy": accuracy, "epochs": EPOCHS, "classes": 10, "population": len(work.slots)}
        result |= {"training_samples": 2560, "validation_samples": 640}
        if work.phase == "rerun":
            result |= {"test_accuracy": accuracy, "test_loss": 1.0, "test_samples": 800}
        curves = {metric: curve.tolist() for metric in METRICS} if with_curves else {}
        results.append(Outcome(slot.id, slot.attempt, accuracy, None, result, curves, seconds=0.1))
    return results


def finish(ledger: Ledger, count: int, with_curves: bool = True, mirror: Mirror | None = None) -> None:
    """Finishes `count` slots of the study, in the order of the schedule."""
    while count > 0:
        work = lease(ledger, min(count, 1000))
        work = ledger.assign(OWNER, work, spread_settings(work))
        work = mirror.begin(OWNER, work) if mirror else work
        results = outcomes(work, with_curves)
        ledger.finish(OWNER, results)
        if mirror:
            mirror.finish(work, results)
        count -= len(work.slots)


def run_program(
    description: str | None, measure: Callable[..., Any], print_result: Callable[[Any], None], **defaults: float
) -> None:
    """Calls `measure(url, …)` with the command line's options, one for each of `defaults`, and prints its result."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="database URL; by default a SQLite file in a temporary folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default: {value}")
    options = vars(parser.parse_args())
    url, as_json = options.pop("storage"), options.pop("json")
    with tempfile.TemporaryDirectory() as folder:
        result = measure(url or f"sqlite:///{Path(folder) / 'benchmark.db'}", **options)
    print(json.dumps(result)) if as_json else print_result(result)
