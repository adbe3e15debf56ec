"""User code that every step or epoch calls in Python is called twice before training, on a few samples."""

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hpo.training.evaluation import validate
from hpo.training.independent_samples import check_augmentation, check_sample_functions
from hpo.training.population import Population
from hpo.training.recipe import Schedule
from hpo.training.samples import Samples, take
from hpo.tree import Tree
from hpo.user_code.calls import call_twice

TRIED = 8  # samples per model


def check_calls(
    population: Population, samples: Samples, schedules: Mapping[str, Schedule], epochs: int, batch_size: int
) -> None:
    """Tries augmentation, evaluation and schedule before the first step.

    Args:
        samples: the population's. schedules: hyperparameter -> its schedule.

    Raises:
        UsageError: one of them returns values that do not follow from its arguments alone, or that change with the
            other samples of a batch.
    """
    indices = samples.training.indices[:, :TRIED]
    if samples.dataset.augments and not samples.source.is_streamed:
        call_twice({"the augmentation": samples.dataset.augment}, lambda: samples.views(indices, 1, 1))
        check_augmentation(samples, indices)
    code = {"the network": population.network.module, "the loss": population.sample_loss}
    code |= {f"metric {name!r}": metric for name, metric in population.metrics.items()}

    def evaluate(indices: Tensor) -> list[Tree]:
        labels = take(samples.labels, indices)
        weights = torch.ones_like(indices, dtype=torch.float32)
        return population.evaluate(samples.read, indices, weights, labels, custom_metrics=True)

    others = samples.training.indices[:, -TRIED:]
    call_twice(code, lambda: evaluate(indices), between=lambda: evaluate(others))
    check_sample_functions(population, samples, torch.cat([indices, others], 1))
    if population.whole_metrics:  # of the whole part: a few samples need not have all classes
        code = {f"metric {name!r}": metric for name, metric in population.whole_metrics.items()}
        call_twice(code, lambda: validate(population, samples, label_fits=False))
    count = samples.training.indices.shape[1] // batch_size
    steps = range(0, epochs * count, max(1, epochs * count // TRIED))
    for name, schedule in schedules.items():
        factors = functools.partial(_factors, schedule, steps, epochs * count, count)
        call_twice({f"the schedule of {name}": schedule}, factors)


def _factors(schedule: Schedule, steps: Sequence[int], total: int, count: int) -> list[float]:
    return [schedule(step, total, count) for step in steps]
