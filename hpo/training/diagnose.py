"""The diagnostics of a population at its evaluated weights."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from hpo.diagnostics import Calibration, Diagnostic, Hessian, Sharpness
from hpo.models.entropies import is_logit, one_number_per_target
from hpo.models.task_metrics import predicted_right
from hpo.training.curvature import TrainingLoss, sharpness, top_eigenvalue, trace
from hpo.training.lifting import lift
from hpo.training.population import Population
from hpo.training.samples import Samples
from hpo.tree import Tree
from hpo.user_code.messages import warn_once

log = logging.getLogger(__name__)


def diagnose(population: Population, samples: Samples, diagnostics: Sequence[Diagnostic], batch_size: int) -> Tree:
    """The quantities [K] of the diagnostics; those that PyTorch cannot compute for this network are left out.

    Args:
        batch_size: of a training step; its quarter is differentiated at once where inputs are large.
    """
    values: Tree = {}
    with _full_precision(population):
        for each in diagnostics:
            try:
                values |= _diagnose(population, samples, each, batch_size)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # such as an operation without a second derivative
                log.info("%s: %s", each, error)
                reason = str(error).partition("\n")[0]
                warn_once(f"diagnostic {type(each).__name__.lower()!r} cannot be computed for this network: {reason}")
    return values


@contextmanager
def _full_precision(population: Population) -> Iterator[None]:
    network = population.network
    before, network.bfloat16 = network.bfloat16, False
    try:
        yield
    finally:
        network.bfloat16 = before


def _diagnose(population: Population, samples: Samples, diagnostic: Diagnostic, batch_size: int) -> Tree:
    if isinstance(diagnostic, Calibration):
        return {"calibration_error": calibration_error(population, samples, diagnostic.bins)}
    loss = TrainingLoss(population, samples, diagnostic.samples, batch_size)
    if isinstance(diagnostic, Sharpness):
        return {"sharpness": sharpness(loss, diagnostic.rho)}
    assert isinstance(diagnostic, Hessian)
    top = top_eigenvalue(loss, samples.seeds, diagnostic)
    return {"hessian_top": top, "hessian_trace": trace(loss, samples.seeds, diagnostic.probes)}


def calibration_error(population: Population, samples: Samples, bins: int) -> Tensor:
    """Expected calibration error [K] on the test set; see `hpo.Calibration`."""
    models, given = len(population), samples.source.test_labels.to(samples.device)
    indices = torch.arange(len(given), device=samples.device).expand(models, -1)
    params, buffers = population.evaluated()
    population.network.module.eval()
    outputs_of = lift(population.network, models)
    excess = torch.zeros(models, bins, dtype=torch.float64, device=samples.device)  # Σ (confidence − right) by bin
    chunk, start = max(1, 2**14 // models), 0
    for inputs in samples.read(indices, chunk, test=True):
        outputs = outputs_of(params, inputs, buffers).double()
        labels = given[start : start + chunk].expand(models, -1)
        confidence, right = (lift(part, models)(outputs, labels) for part in (predicted_probability, predicted_right))
        places = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)  # bins (0, 1/B], (1/B, 2/B], …
        excess.scatter_add_(1, places, confidence - right.double())
        start += chunk
    return excess.abs().sum(1) / len(given)


def predicted_probability(outputs: Tensor, labels: Tensor) -> Tensor:
    """The probability [N] of the predicted class, for logits [N, C] or one logit of two classes."""
    if is_logit(outputs, labels):
        return one_number_per_target(outputs, labels).abs().sigmoid()
    return outputs.softmax(-1).amax(-1)
