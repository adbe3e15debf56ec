"""A test set that is a fraction of the samples, drawn once, the same for all seeds and in every process."""

from typing import Any

import torch
from torch import Tensor

from hpo.data.source import Source
from hpo.errors import UsageError
from hpo.random import stream
from hpo.user_code.messages import describe_value


def split_test(total: int, share: float) -> tuple[Tensor, Tensor]:
    """The indices of the samples outside the test set and of the test set."""
    order = torch.randperm(total, generator=stream(0, "data", "test"))
    kept, test = order.tensor_split([total - round(share * total)])
    return kept.sort().values, test.sort().values


def check_share(owner: str, test: Any, otherwise: str) -> float:
    """Raises UsageError unless `test` is a share of the samples; `otherwise` is what else it may be."""
    if not (isinstance(test, float) and 0 < test < 1):
        raise UsageError(
            f"{owner}: test is {describe_value(test)}; give a fraction above 0 and below 1, such as 0.2, or {otherwise}"
        )
    return float(test)


def split_source(owner: str, source: Source, share: float) -> Source:
    """A source whose test set is a share of its samples [M, ...]."""
    kept, chosen = split_test(len(source.labels), share)
    if not len(chosen):
        raise UsageError(
            f"{owner}: test is {share!r}, which is none of {len(source.labels)} samples; choose a larger share"
        )
    inputs, labels = source.inputs, source.labels
    assert isinstance(inputs, Tensor)
    return Source(inputs[kept], labels[kept], inputs[chosen], labels[chosen], source.classes)
