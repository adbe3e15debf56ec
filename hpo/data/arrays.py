"""Arrays: samples in arrays, tensors, lists or data frames."""

from dataclasses import dataclass, field
from typing import Any

import torch

from hpo.data.given import Given, check_share, split_test
from hpo.errors import UsageError
from hpo.user_code.messages import describe_value

HIDDEN = {"described": False}


@dataclass(frozen=True, eq=False)
class Arrays(Given):
    """Samples in numpy arrays, tensors, lists or pandas data frames, of any integer or float type.

    Labels of floats are regression targets, [M] or [M, D]. Whole numbers [M] are classes; zeros and ones [M, L] are
    several labels per sample; other whole numbers [M, T] are a class per token. `task` overrides this.

    Attributes:
        inputs: [M, ...]. labels: [M] or [M, ...].
        test: the test set as (inputs, labels), or a fraction of the samples that is drawn once, the same for all seeds.
    """

    inputs: Any = field(repr=False, metadata=HIDDEN)
    labels: Any = field(repr=False, metadata=HIDDEN)
    test: Any = field(default=0.2, repr=False, metadata=HIDDEN)

    def __post_init__(self) -> None:
        parts: tuple[Any, ...] = (self.inputs, self.labels)
        if isinstance(self.test, tuple | list):
            if len(self.test) != 2:
                raise UsageError(f"Arrays: test has {len(self.test)} entries; give (inputs, labels), or a fraction")
            parts = *parts, *self.test
        else:
            parts = split_off_test("Arrays", self.inputs, self.labels, self.test)
        self._keep(*parts)
        super().__post_init__()


def split_off_test(owner: str, inputs: Any, labels: Any, test: Any) -> tuple[Any, Any, Any, Any]:
    """Inputs and labels outside the test set, and those of a test set that is a fraction of them."""
    share = check_share(owner, test)
    for name, value in (("inputs", inputs), ("labels", labels)):
        if not hasattr(value, "__len__"):
            raise UsageError(f"{owner}: {name} is {describe_value(value)}; give an array with one entry per sample")
    if len(inputs) != len(labels):
        raise UsageError(f"{owner}: there are {len(inputs)} inputs and {len(labels)} labels; give one label per input")
    kept, chosen = split_test(len(inputs), share)
    if not len(chosen):
        raise UsageError(f"{owner}: test is {test!r}, which is none of {len(inputs)} samples; choose a larger share")
    return _take(inputs, kept), _take(labels, kept), _take(inputs, chosen), _take(labels, chosen)


def _take(values: Any, indices: torch.Tensor) -> Any:
    if isinstance(values, torch.Tensor):
        return values[indices.to(values.device)]
    if hasattr(values, "iloc"):
        return values.iloc[indices.numpy()]
    return [values[index] for index in indices.tolist()] if isinstance(values, list) else values[indices.numpy()]
