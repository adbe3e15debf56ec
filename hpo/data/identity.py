"""A short description of a source, by which two processes can check that they loaded the same data."""

import hashlib
from typing import Any

import torch

from hpo.data.image_files import ImageFiles
from hpo.data.source import Inputs, Source

PROBES = 64  # samples of each part that are compared


def identify(source: Source) -> dict[str, Any]:
    """JSON values: the shapes, digests of all classes and file names, and one number for each of some samples.

    Machines may round the numbers differently; `hpo.storage.ledger.data_check` compares them with a tolerance.
    """
    labels = torch.cat([source.labels, source.test_labels])
    classes = hashlib.sha256(labels.to(torch.int64).numpy().tobytes()).hexdigest()[:16]
    files = [part for part in (source.inputs, source.test_inputs) if isinstance(part, ImageFiles)]
    return {
        **({"files": [part.digest() for part in files]} if files else {}),
        "shapes": [list(source.inputs.shape), list(source.test_inputs.shape)],
        "labels": _probe(labels) if labels.is_floating_point() else classes,
        "inputs": _probe(source.inputs) + _probe(source.test_inputs),
    }


def _probe(inputs: Inputs) -> list[float]:
    """For each probed sample the sum of its values, weighted by position."""
    count = min(PROBES, len(inputs))
    indices = torch.arange(count, device=inputs.device) * len(inputs) // count
    samples = inputs[indices].cpu().reshape(count, -1)
    samples = torch.view_as_real(samples).flatten(1) if samples.is_complex() else samples
    weights = torch.arange(samples.shape[1], dtype=torch.float64).cos()
    return [float(value) for value in samples.double() @ weights]
