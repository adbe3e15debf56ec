"""What studies cost on one CPU core, from two short runs of each configuration: `study_cost.py [STUDY ...]`.

A population of each configuration, as large as in `hpo run`, trains for a few epochs and for three times as many. The
difference is the time of an epoch, evaluation included, and the rest of the first run is what each population costs
once. Both are CPU time of this process, so that other processes matter little. Settings are random, as in the first
trials of a tuning run.
"""

import argparse
import dataclasses
import math
import time
from typing import NamedTuple

import torch

from hpo.space import split_space
from hpo.study.components import full_space
from hpo.study.directions import direction_of
from hpo.study.loading import load
from hpo.study.study import Study
from hpo.trials import Slot, Work
from hpo.worker.sampler import sample
from hpo.worker.trainer import Trainer


class Cost(NamedTuple):
    """CPU seconds of one configuration: of an epoch of one model, and of a whole population once."""

    population: int
    epoch: float
    once: float


def measure(study: Study, configuration: str, epochs: int) -> Cost:
    """The cost of a configuration, with populations as large as its network and one core make them."""
    space = split_space(full_space(Trainer(study, "cpu").configuration(configuration)))
    size = Trainer(study, "cpu").limits.largest()
    settings = sample(space, [], [], size, direction_of(study), 0)
    work = Work(configuration, "tune", [Slot(number, 0, 0, 1, setting) for number, setting in enumerate(settings)])
    seconds = []
    for count in (epochs, epochs, 3 * epochs):  # the first one also initialises libraries
        trainer = Trainer(dataclasses.replace(study, epochs=count, tuning_epochs=None), "cpu")
        trainer.source  # noqa: B018 - loads the samples
        begin = time.process_time()
        trainer(work)
        seconds.append(time.process_time() - begin)
    _, short, long = seconds
    of_epochs = (long - short) / 2
    return Cost(size, of_epochs / size / epochs, max(0.0, short - of_epochs))


def minutes(study: Study, configuration: str, cost: Cost) -> float:
    """CPU minutes of all trials and reruns of a configuration."""
    trials = next(entry.trials for entry in study.configurations if entry.name == configuration) or study.trials
    tuning_epochs = study.tuning_epochs or study.epochs
    runs = study.tuning_runs or 3
    models, epochs = trials * runs + study.seeds, trials * runs * tuning_epochs + study.seeds * study.epochs
    return (epochs * cost.epoch + math.ceil(models / cost.population) * cost.once) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("studies", nargs="+")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of the shorter of the two runs (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.studies:
        study, total = load(name), 0.0
        print(f"{name}: {study.tuning_runs} × {study.trials} trials, {study.seeds} seeds, {study.epochs} epochs")
        for entry in study.configurations:
            cost = measure(study, entry.name, options.epochs)
            spent = minutes(study, entry.name, cost)
            total += spent
            print(
                f"  {entry.name}: {1e3 * cost.epoch:.0f} ms per model and epoch at population {cost.population}, "
                f"{cost.once:.1f} s per population, {spent:.1f} CPU minutes",
                flush=True,
            )
        print(f"  {total:.0f} CPU minutes in all", flush=True)


if __name__ == "__main__":
    main()
