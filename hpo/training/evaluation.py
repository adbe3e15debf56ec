"""Evaluation of a population: validation metrics in every epoch, training and test metrics at the end."""

import math
from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from hpo.tasks import ACCURACY, CORRUPTED
from hpo.training.population import Population
from hpo.training.samples import Part, Samples, take
from hpo.tree import Tree
from hpo.user_code.messages import warn_once


def validate(population: Population, samples: Samples, label_fits: bool = True) -> Tree:
    """Validation metrics and, with label noise, the shares of training labels that are fitted, [K] each.

    `noisy_labels_fitted` and `noisy_labels_recovered` are the shares of all changed training labels that are predicted
    as given and as they truly are. `clean_labels_fitted` is that of as many unchanged labels, the same ones in every
    epoch, so that no epoch evaluates the whole training part.
    """
    [metrics] = _evaluate(population, samples, samples.validation, samples.labels, custom=True)
    metrics = _prefixed("validation", metrics)
    if label_fits and samples.changed.indices.shape[1]:
        fitted, recovered = _evaluate(population, samples, samples.changed, samples.labels, samples.true_labels)
        metrics |= {"noisy_labels_fitted": fitted["accuracy"], "noisy_labels_recovered": recovered["accuracy"]}
    if label_fits and samples.unchanged.indices.shape[1]:
        [fitted] = _evaluate(population, samples, samples.unchanged, samples.labels)
        metrics["clean_labels_fitted"] = fitted["accuracy"]
    return metrics


def evaluate_training(population: Population, samples: Samples) -> Tree:
    """`train_loss` and the task's metrics [K] on the whole training part, with the given labels."""
    [metrics] = _evaluate(population, samples, samples.training, samples.labels)
    return _prefixed("train", metrics)


def _evaluate(
    population: Population, samples: Samples, part: Part, *labels: Tensor, custom: bool = False
) -> list[Tree]:
    chosen = [take(each, part.indices) for each in labels]
    return population.evaluate(samples.read, *part, *chosen, custom_metrics=custom, whole_metrics=custom)


def evaluate_test(population: Population, samples: Samples) -> Tree:
    """Test metrics [K]; for reruns only."""
    models, labels = len(population), samples.source.test_labels.to(samples.device)
    indices = torch.arange(len(labels), device=samples.device).expand(models, -1)
    weights = torch.ones_like(indices, dtype=torch.float32)
    read = partial(samples.read, test=True)
    labels = labels.expand(models, *labels.shape)
    [metrics] = population.evaluate(read, indices, weights, labels, custom_metrics=True, whole_metrics=True)
    return _prefixed("test", metrics | _evaluate_corrupted(population, samples))


def _evaluate_corrupted(population: Population, samples: Samples) -> Tree:
    """The accuracy [K] on corrupted test samples, of all of them and by corruption; empty where there are none."""
    right: dict[str, list[Tensor]] = {}
    counts: dict[str, list[int]] = {}
    for name, inputs, labels in getattr(samples.dataset, "corrupted_tests", tuple)():
        placed, models = inputs.to(samples.device), len(population)
        indices = torch.arange(len(labels), device=samples.device).expand(models, -1)
        weights = torch.ones_like(indices, dtype=torch.float32)
        given = labels.to(samples.device).expand(models, -1)
        [metrics] = population.evaluate(partial(samples.read_from, placed), indices, weights, given)
        right.setdefault(name, []).append(metrics[ACCURACY].double() * len(labels))
        counts.setdefault(name, []).append(len(labels))
    if not right:
        return {}
    sums = {name: torch.stack(values).sum(0) for name, values in right.items()}
    total = sum(map(sum, counts.values()))
    by_name = {f"{ACCURACY}_{name}": values / sum(counts[name]) for name, values in sums.items()}
    return {CORRUPTED: torch.stack(list(sums.values())).sum(0) / total} | by_name


def warn_about_infinities(metrics: Iterable[str], values: Mapping[str, float]) -> None:
    """Warns, once per custom metric, if its mean over a model's validation samples is not finite.

    Args:
        values: metric → mean of a model whose losses are finite, custom metrics as `validation_<name>`.
    """
    for name in metrics:
        value = values[f"validation_{name}"]
        if not math.isfinite(value):
            warn_once(
                f"metric {name!r} is {value} although the loss is finite; return finite numbers, else trials scored by "
                "it have no score and comparisons by it have no verdict"
            )


def _prefixed(part: str, metrics: Tree) -> Tree:
    return {f"{part}_{name}": values for name, values in metrics.items()}
