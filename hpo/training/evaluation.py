"""What a population is judged by: validation metrics of every epoch, and training and test metrics at the end."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from hpo.training.population import Population
from hpo.training.samples import Samples
from hpo.user_code.messages import warn_once


def validate(population: Population, samples: Samples, label_fits: bool = True) -> dict[str, Tensor]:
    """Validation metrics, and how many training labels are fitted where noise changed some, [K] each.

    `noisy_labels_fitted` and `noisy_labels_recovered` are the shares of all changed training labels predicted as given
    and as they truly are; `clean_labels_fitted` that of as many unchanged ones, a sample that is the same at every
    epoch: so fitting is judged at every epoch without evaluating the whole training part.
    """
    places = samples.validation
    [found] = population.evaluate(
        samples.inputs, places, samples.validation_weights, samples.labels.gather(1, places), own=True
    )
    metrics = _prefixed("validation", found)
    if label_fits and samples.changed.shape[1]:
        kinds = [labels.gather(1, samples.changed) for labels in (samples.labels, samples.true_labels)]
        shares = population.evaluate(samples.inputs, samples.changed, samples.changed_weights, *kinds)
        for name, share in zip(("fitted", "recovered"), shares, strict=True):
            metrics[f"noisy_labels_{name}"] = share["accuracy"]
    if label_fits and samples.unchanged.shape[1]:
        given = samples.labels.gather(1, samples.unchanged)
        [share] = population.evaluate(samples.inputs, samples.unchanged, samples.unchanged_weights, given)
        metrics["clean_labels_fitted"] = share["accuracy"]
    return metrics


def evaluate_training(population: Population, samples: Samples) -> dict[str, Tensor]:
    """`train_loss` and `train_accuracy` [K] on the whole training part, with the labels as given."""
    places = samples.training
    [found] = population.evaluate(samples.inputs, places, samples.training_weights, samples.labels.gather(1, places))
    return _prefixed("train", found)


def evaluate_test(population: Population, samples: Samples) -> dict[str, Tensor]:
    """Test metrics [K]; reruns alone may ask for them."""
    device, models = samples.inputs.device, len(population)
    inputs = samples.source.test_inputs.to(device)
    labels = samples.source.test_labels.to(device).expand(models, -1)
    everything = torch.arange(len(inputs), device=device).expand(models, -1)
    [found] = population.evaluate(inputs, everything, torch.ones_like(labels, dtype=torch.float32), labels, own=True)
    return _prefixed("test", found)


def warn_of_infinities(metrics: Iterable[str], values: Mapping[str, float]) -> None:
    """Warns, once for each custom metric, that its mean over the validation samples of a model is not finite.

    Args:
        values: of a model whose losses are finite, metric → mean, custom ones as `validation_<name>`.
    """
    for name in metrics:
        value = values[f"validation_{name}"]
        if not math.isfinite(value):
            warn_once(
                f"metric {name!r} has a mean of {value} where the loss is finite; let it give a finite number for each "
                "sample, else a trial that it scores has no score, and a comparison by it no verdict"
            )


def _prefixed(part: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}_{name}": values for name, values in found.items()}
