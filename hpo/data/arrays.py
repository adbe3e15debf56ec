"""Arrays: samples in arrays, tensors, lists or data frames."""

from dataclasses import dataclass, field
from typing import Any

from hpo.data.given import Given
from hpo.data.held_out import check_share
from hpo.errors import UsageError

HIDDEN = {"described": False}


@dataclass(frozen=True, eq=False)
class Arrays(Given):
    """Samples in numpy arrays, tensors, lists or pandas data frames, of any integer or float type.

    Labels of floats are regression targets, [M] or [M, D]. Whole numbers [M] are classes; zeros and ones [M, L] are
    several labels per sample; other whole numbers [M, T] are a class per token. `task` overrides this. Inputs and
    targets enter as they are; a subclass may have a `scaling`.

    Attributes:
        inputs: [M, ...]. labels: [M] or [M, ...].
        test: the test set as (inputs, labels), or a fraction of the samples that is drawn once, the same for all seeds.
        task, classes: what the labels are, and the number of classes, by default the largest label plus one.
        ignore_index: the label of tokens without a target, −100 by default.
        label_noise: the fraction of labels outside the test set that are redrawn, for each seed; with the default
            `noise` "symmetric" over all classes, the true one included, "symmetric_exclusive" over the others.
        validation: the fraction of the samples outside the test set that is used for validation.
        split: "random" draws the validation part for each seed, "last" takes the last samples.
    """

    inputs: Any = field(repr=False, metadata=HIDDEN)
    labels: Any = field(repr=False, metadata=HIDDEN)
    test: Any = field(default=0.2, repr=False, metadata=HIDDEN)

    def __post_init__(self) -> None:
        if isinstance(self.test, tuple | list):
            if len(self.test) != 2:
                raise UsageError(f"Arrays: test has {len(self.test)} entries; give (inputs, labels), or a fraction")
        else:
            check_share("Arrays", self.test, "(test_inputs, test_labels)")
        self._keep(self.inputs, self.labels, self.test)
        super().__post_init__()
