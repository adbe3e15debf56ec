"""Studies with results that were drawn instead of trained, put into a database by the ledger's own bulk calls."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from hpo.errors import UsageError
from hpo.models import MLP
from hpo.search_space import Range, split_space
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Setting, Work, load_study, open_study
from hpo.storage.optuna.mirror import clear
from hpo.study.definition import describe, digest
from hpo.study.study import Configuration, Study

EPOCHS = 30
AT_ONCE = 1000  # runs finished together
METRICS = (
    *("train_loss", "validation_loss", "validation_accuracy"),
    *("noisy_labels_fitted", "noisy_labels_recovered", "clean_labels_fitted"),
)


@contextmanager
def made(url: str, name: str, configurations: int, trials: int, seeds: int) -> Iterator[Ledger]:
    """A study in the database in which nothing is finished; what has its name is deleted before and afterwards.

    Args:
        trials, seeds: of every configuration.
    """
    from hpo.data import Mnist1d

    regularizers = ["none", *(["gnvr", "sgsc", "rogc"] * configurations)][:configurations]
    names = [f"{regularizer}-{number}" for number, regularizer in enumerate(regularizers)]
    study = Study(
        title="Drawn instead of trained",
        hypothesis="None: these numbers were drawn in order to time what is made of them.",
        data=Mnist1d(label_noise=0.2),
        model=MLP((40, 256, 256, 10)),
        baseline=names[0],
        configurations=tuple(
            Configuration(own, regularizer=regularizer) for own, regularizer in zip(names, regularizers, strict=True)
        ),
        trials=trials,
        seeds=seeds,
        epochs=EPOCHS,
        name=name,
    )
    definition, planned = describe(study), {"trials": trials, "seeds": seeds, "tuning_runs": 1}
    text = {"title": study.title, "hypothesis": study.hypothesis, "command": f"hpo run {name}"}
    engine = connect(url)
    try:
        _delete(engine, name)
        yield open_study(engine, name, definition, digest(definition), planned, text, {})
    finally:
        _delete(engine, name)
        engine.dispose()


def _delete(engine: Any, name: str) -> None:
    with suppress(UsageError):  # there is none
        load_study(engine, name).delete()
    clear(engine, name)


def finish(ledger: Ledger, owner: str, generator: np.random.Generator, trials: int, reruns: int = 0) -> None:
    """Finishes so many trials of every configuration and, once all are, so many reruns of all together.

    Reruns have curves, trials have none.
    """
    done = dict.fromkeys(ledger.configurations, 0)
    while min(done.values()) < trials:
        # The configuration with the fewest finished comes next: no more of it than are wanted.
        work = ledger.lease(owner, min(AT_ONCE, trials - min(done.values())))
        assert work is not None, "the study has too few trials"
        work = ledger.assign(owner, work, settings(ledger, work, generator))
        ledger.finish(owner, [outcome(work, place, generator, False) for place in range(len(work.slots))])
        done[work.configuration] += len(work.slots)
    while reruns > 0:
        work = ledger.lease(owner, min(reruns, AT_ONCE))
        assert work is not None, "the study has too few reruns"
        ledger.finish(owner, [outcome(work, place, generator, True) for place in range(len(work.slots))])
        reruns -= len(work.slots)


def settings(ledger: Ledger, work: Work, generator: np.random.Generator) -> list[Setting]:
    """Settings for the slots that have none, drawn evenly from the ranges, each on its own scale."""
    ranges = _ranges(ledger, work)
    fresh = sum(slot.setting is None for slot in work.slots)
    return [{name: _at(ranges[name], generator.uniform()) for name in ranges} for _ in range(fresh)]


def _ranges(ledger: Ledger, work: Work) -> dict[str, Range]:
    entries = ledger.definition["configurations"]
    return split_space(next(entry["space"] for entry in entries if entry["name"] == work.configuration))[0]


def _at(interval: Range, position: float) -> float:
    if interval.log:
        return float(interval.low * (interval.high / interval.low) ** position)
    return interval.low + (interval.high - interval.low) * position


def outcome(work: Work, place: int, generator: np.random.Generator, with_curves: bool) -> Outcome:
    """What a run might give: the nearer its setting is to one and the same point, the better."""
    slot = work.slots[place]
    distance = float(np.mean([np.log10(abs(value) + 1e-9) ** 2 for value in (slot.setting or {"": 1.0}).values()]))
    drawn = curves(0.55 - 0.01 * distance, generator)
    result: dict[str, Any] = {metric: values[-1] for metric, values in drawn.items()}
    result |= {"train_accuracy": drawn["validation_accuracy"][-1] + 0.1, "training_samples": 2560}
    result |= {"validation_samples": 640, "changed_labels": 512, "classes": 10, "epochs": EPOCHS, "population": 20}
    value = result["validation_accuracy"]
    if work.phase == "rerun":
        value = float(np.clip(value + generator.normal(0, 0.01), 0, 1))
        result |= {"test_accuracy": value, "test_loss": result["validation_loss"], "test_samples": 800}
    seconds = float(generator.uniform(0.4, 0.6))
    return Outcome(slot.id, slot.attempt, value, None, result, drawn if with_curves else {}, seconds)


def curves(best: float, generator: np.random.Generator) -> dict[str, Sequence[float]]:
    """Metric → one number an epoch, of a run that comes near the accuracy `best`."""
    time = np.arange(1, EPOCHS + 1) / EPOCHS
    noise = generator.normal(0, 0.01, (len(METRICS), EPOCHS))
    accuracy = np.clip(0.1 + (best - 0.1) * (1 - np.exp(-4 * time)) + noise[0], 0, 1)
    drawn = {
        "train_loss": 2.3 * np.exp(-2 * time + 5 * noise[1]),
        "validation_loss": 2.3 - accuracy + noise[2],
        "validation_accuracy": accuracy,
        "noisy_labels_fitted": np.clip(0.1 + 0.6 * time + noise[3], 0, 1),
        "noisy_labels_recovered": np.clip(0.4 * (1 - time) + 0.1 + noise[4], 0, 1),
        "clean_labels_fitted": np.clip(accuracy + 0.1 + noise[5], 0, 1),
    }
    return {metric: drawn[metric].tolist() for metric in METRICS}
