"""What a source holds, in a few numbers by which two processes can tell whether they were given the same one."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from hpo.data.source import Source

PROBES = 64  # samples of each part that are looked at


def identify(source: Source) -> dict[str, Any]:
    """JSON values: the shapes, a digest of all labels, and a number for each of some samples, evenly spread.

    The numbers are sums, for a machine may round otherwise; `hpo.storage.ledger.data_check` compares them.
    """
    labels = torch.cat([source.labels, source.test_labels]).to(torch.int64)
    return {
        "shapes": [list(source.inputs.shape), list(source.test_inputs.shape)],
        "labels": hashlib.sha256(labels.numpy().tobytes()).hexdigest()[:16],
        "inputs": _probe(source.inputs) + _probe(source.test_inputs),
    }


def _probe(inputs: Tensor) -> list[float]:
    """For each of the samples looked at the sum of its numbers, each times a factor of its place."""
    count = min(PROBES, len(inputs))
    places = torch.arange(count, device=inputs.device) * len(inputs) // count
    samples = inputs[places].cpu().reshape(count, -1)
    samples = torch.view_as_real(samples).flatten(1) if samples.is_complex() else samples
    factors = torch.arange(samples.shape[1], dtype=torch.float64).cos()
    return [float(value) for value in samples.double() @ factors]
