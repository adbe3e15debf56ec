"""How far a study is while it runs: what its workers train, how fast, and how long it will take; numbers and words."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hpo.errors import plural
from hpo.tasks import metric_words

Counts = Mapping[str, Mapping[str, Any]]


class Training(NamedTuple):
    """What a worker trains, as of a few seconds ago.

    Attributes:
        phase: "trial" or "rerun". runs: trials or reruns that it trains at once. epoch: the last finished one.
        loss: the mean training loss of the models that have not diverged. score: the best among the runs, both of
            that epoch; None where there is none.
        speed: models × epochs per second.
    """

    configuration: str
    phase: str
    runs: int
    epoch: int
    epochs: int
    loss: float | None
    score: float | None
    speed: float | None


class Progress(NamedTuple):
    """The progress of a study.

    Attributes:
        trainings: of the workers that have reported one. score: its metric. speed: models × epochs per second of all
            workers together. seconds_left: an estimate. Both are None while they are unknown. workers: how many are
            present.
    """

    trainings: list[Training]
    score: str
    speed: float | None
    seconds_left: float | None
    workers: int = 0


def progress(definition: Mapping[str, Any], counts: Counts, workers: Sequence[Mapping[str, Any]]) -> Progress:
    """The progress of a study from `Ledger.counts` and the workers of `Ledger.activity`."""
    trainings = [Training(**worker["training"]) for worker in workers if worker["training"]]
    speeds = [training.speed for training in trainings if training.speed]
    speed = sum(speeds) if speeds else None
    left = _seconds_left(definition, counts, trainings, speed, len(workers))
    return Progress(trainings, definition["score"], speed, left, len(workers))


def lines(progress: Progress, most: int = 4) -> list[str]:
    """A line for each of at most `most` workers, the slowest first, and one for the whole study."""
    if progress.workers and not progress.trainings:
        return [f"{plural(progress.workers, 'worker')} loading data, checking the network or choosing settings"]
    order = sorted(progress.trainings, key=lambda training: training.epoch / training.epochs)
    shown = [_training_line(training, progress.score) for training in order[:most]]
    if len(order) > most:
        shown.append(f"and {plural(len(order) - most, 'other worker')}")
    speed = "" if progress.speed is None else f"{progress.speed:.3g} epochs per second over all models"
    left = "" if progress.seconds_left is None else f"{duration(progress.seconds_left)} left"
    return shown + ([", ".join(filter(None, (speed, left)))] if speed or left else [])


def duration(seconds: float) -> str:
    """ "about 40 seconds", "about 3 minutes", "about 2 hours 10 minutes", "about 3 days"."""
    if seconds < 90:
        return f"about {plural(max(1, int(round(seconds, -1 if seconds > 20 else 0))), 'second')}"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {plural(minutes, 'minute')}"
    hours, rest = divmod(round(minutes / 10) * 10, 60)
    if hours >= 48:
        return f"about {plural(round(hours / 24), 'day')}"
    return f"about {plural(hours, 'hour')}" + (f" {rest} minutes" if rest else "")


def _training_line(training: Training, score: str) -> str:
    kind = "rerun" if training.phase == "rerun" else "trial"
    parts = [f"{training.configuration}: {plural(training.runs, kind)}, epoch {training.epoch} of {training.epochs}"]
    parts += [] if training.loss is None else [f"loss {_number(training.loss)}"]
    parts += [] if training.score is None else [f"{metric_words(score)} {_number(training.score)}"]
    return ", ".join(parts)


def _seconds_left(
    definition: Mapping[str, Any], counts: Counts, trainings: Sequence[Training], speed: float | None, workers: int
) -> float | None:
    """What is left of each configuration at its cost so far, shared by the workers that are present.

    A configuration without a finished run has the mean cost of the others, and before any has finished the cost that
    follows from the speed.
    """
    if not workers:
        return None
    models = {"trials": definition.get("seeds_per_trial", 1), "reruns": 1}
    epochs = {"trials": models["trials"] * definition["tuning_epochs"], "reruns": definition["epochs"]}
    left = {
        name: sum(epochs[phase] * (entry[f"{phase}_total"] - entry[f"{phase}_done"]) for phase in epochs)
        for name, entry in counts.items()
    }
    for training in trainings:
        if training.configuration not in left:
            continue  # added after this process opened the study
        phase = "reruns" if training.phase == "rerun" else "trials"
        left[training.configuration] -= training.runs * models[phase] * training.epoch
    done = {name: sum(epochs[phase] * entry[f"{phase}_done"] for phase in epochs) for name, entry in counts.items()}
    costs = {name: entry["seconds"] / done[name] for name, entry in counts.items() if done[name] and entry["seconds"]}
    if costs:
        usual = sum(costs.values()) / len(costs)
    elif speed:
        usual = workers / speed
    else:
        return None
    return sum(max(0, number) * costs.get(name, usual) for name, number in left.items()) / workers


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 100 else f"{value:.0f}"
