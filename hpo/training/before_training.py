"""User code that is called as it is, step by step or epoch by epoch, tried twice on the first samples of a run."""

from collections.abc import Callable

import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.training.population import Population
from hpo.training.samples import Samples
from hpo.tree import Tree
from hpo.user_code.calls import call_twice

TRIED = 8  # samples of each model


def check_calls(
    population: Population, samples: Samples, schedule: Callable[[int, int, int], float], epochs: int, batch_size: int
) -> None:
    """Tries augmentation, evaluation and schedule before the first step.

    Args:
        samples: the population's. schedule: (step, steps, steps_per_epoch) -> factor on the learning rate.

    Raises:
        UsageError: what one of them gives does not follow from its arguments alone.
    """
    places = samples.training[:, :TRIED]
    if samples.dataset.augments:
        call_twice({"the augmentation": samples.dataset.augment}, lambda: samples.views(places, 1, 1))
        _check_apart(samples, places)
    code = {"the network": population.network.module, "the loss": population.sample_loss}
    code |= {f"metric {name!r}": metric for name, metric in population.metrics.items()}

    def evaluate(places: Tensor) -> list[Tree]:
        labels = samples.labels.gather(1, places)
        weights = torch.ones_like(places, dtype=torch.float32)
        return population.evaluate(samples.inputs, places, weights, labels, own=True)

    others = samples.training[:, -TRIED:]
    call_twice(code, lambda: evaluate(places), between=lambda: evaluate(others))
    count = samples.training.shape[1] // batch_size
    steps = range(0, epochs * count, max(1, epochs * count // TRIED))
    call_twice({"the schedule": schedule}, lambda: [schedule(step, epochs * count, count) for step in steps])


def _check_apart(samples: Samples, places: Tensor) -> None:
    """Raises UsageError where the augmentation of a sample follows from what else is in the batch.

    All members' samples are augmented together, so that it would follow from who trains beside them, too.
    """
    half = places.shape[1] // 2
    parts = [samples.views(part, 1, 1) for part in (places[:, :half], places[:, half:])]
    together, apart = samples.views(places, 1, 1), torch.cat(parts, 2)
    if together.is_floating_point():  # of a batch of another size a sum may be rounded otherwise
        alike = torch.allclose(together, apart, rtol=1e-3, atol=1e-4)
    else:
        alike = torch.equal(together, apart)
    if not alike:
        raise UsageError(
            "data: augment gives a sample another variation when other samples are beside it; let each follow from "
            "that sample and its own key alone, as the numbers of hpo.random do"
        )
