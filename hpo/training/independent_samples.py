"""Checks that a sample's augmentation, loss and metrics do not depend on the other samples of the batch."""

from functools import partial

import torch
from torch import Tensor

from hpo.errors import UsageError
from hpo.gradients.sample_functions import SampleFunction, compute_losses, compute_metric, describe_shapes
from hpo.training.lifting import lift
from hpo.training.population import Population
from hpo.training.samples import Samples, take
from hpo.tree import NEARLY_ZERO, without_zeros
from hpo.user_code.messages import UserCodeError

# Relative to the largest value of a batch: outputs are the same in each batch, so that values differ by the rounding of
# one function only. Another sample's influence is about as large as the values themselves.
ROUNDING = 1e-4
COARSE_ROUNDING = 0.03  # in half precision


def check_augmentation(samples: Samples, indices: Tensor) -> None:
    """Raises UsageError if a sample's augmentation depends on the other samples of the batch, of all members."""
    half = indices.shape[1] // 2
    together = samples.views(indices, 1, 1)
    halves = torch.cat([samples.views(part, 1, 1) for part in (indices[:, :half], indices[:, half:])], 2)
    if together.is_floating_point():  # sums may be rounded otherwise in a batch of another size
        equal = torch.allclose(together, halves, rtol=1e-3, atol=1e-4)
    else:
        equal = torch.equal(together, halves)
    if not equal:
        raise UsageError(
            "data: augment changes a sample in another way when other samples are in the batch; compute each "
            "sample's change from that sample and its own key only, as hpo.random does"
        )


def check_sample_functions(population: Population, samples: Samples, indices: Tensor) -> None:
    """Raises UsageError if a sample's loss or custom metric changes with the other samples, as after broadcasting."""
    inputs = next(iter(samples.read(indices, indices.shape[1])))
    outputs, labels = population.outputs(inputs), take(samples.labels, indices)
    if outputs.abs().max() < NEARLY_ZERO:  # as after a last layer of zeros, behind which all samples are equal
        outputs = without_zeros(outputs)
    _check_loss(population.sample_loss, outputs, labels)
    for name, metric in population.metrics.items():
        _check_metric(name, metric, outputs, labels)


def _check_loss(loss: SampleFunction, outputs: Tensor, labels: Tensor) -> None:
    """Raises UsageError if the loss of a sample changes with the other samples of a batch.

    Args:
        outputs, labels: [K, N, ...], of K models.
    """
    if _mixes_samples(partial(compute_losses, loss), outputs, labels):
        raise UserCodeError(
            "the loss of a sample changes with the other samples of a batch"
            f"{describe_shapes(outputs[0], labels[0])}; compute it from the sample's own output and label only"
        )


def _check_metric(name: str, metric: SampleFunction, outputs: Tensor, labels: Tensor) -> None:
    """Raises UsageError if a custom metric of a sample changes with the other samples; arguments as above."""
    if _mixes_samples(partial(compute_metric, name, metric), outputs, labels):
        raise UserCodeError(
            f"metric {name!r} of a sample changes with the other samples of a batch"
            f"{describe_shapes(outputs[0], labels[0])}; compute it from the sample's own output and label only, or use "
            "hpo.whole(function) for one number of all samples"
        )


def _mixes_samples(function: SampleFunction, outputs: Tensor, labels: Tensor) -> bool:
    """Whether values of a batch differ from those of its first half alone, or of its second half after other samples.

    No sample changes its place, so that values which depend on it stay the same.
    """
    count, half = labels.shape[1], labels.shape[1] // 2
    rows = torch.arange(count, device=labels.device)
    batches = rows, rows[:half], torch.cat([rows[count - half :], rows[half:]])

    def values(outputs: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        # Indexing copies, so that a function may change its arguments in place.
        return tuple(function(outputs[batch], labels[batch]) for batch in batches)

    together, alone, after_others = lift(values, len(labels))(outputs, labels)
    tolerance = COARSE_ROUNDING if together.dtype in (torch.float16, torch.bfloat16) else ROUNDING
    size = together.double().nan_to_num(posinf=0, neginf=0).abs().max()
    pairs = (together[:, :half], alone), (together[:, half:], after_others[:, half:])
    return not all(
        torch.allclose(one.double(), other.double(), rtol=0, atol=tolerance * float(size), equal_nan=True)
        for one, other in pairs
    )
