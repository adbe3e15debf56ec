"""Stages: a batch size that changes during training."""

from collections.abc import Mapping
from dataclasses import dataclass

from hpo.errors import require


@dataclass(frozen=True)
class Stages:
    """A batch size that changes during training, as in Smith et al., arXiv:1711.00489.

    Attributes:
        stages: finished epochs → the batch size from then on, as a dict or as pairs: {0: 32, 10: 64} is 32 for the
            first 10 epochs and 64 for all others. Learning-rate schedules go by epochs, whose numbers of steps differ.
    """

    stages: Mapping[int, int] | tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        pairs = self.stages.items() if isinstance(self.stages, Mapping) else self.stages
        stages = tuple((epoch, size) for epoch, size in pairs)
        whole = all(type(number) is int for stage in stages for number in stage)
        starts = [epoch for epoch, _ in stages]
        valid = whole and starts[:1] == [0] and starts == sorted(set(starts)) and min(size for _, size in stages) > 0
        expected = "whole numbers {0: batch size, epoch: batch size, …} in ascending order of the epochs"
        require(valid, "batch_size: stages", self.stages, expected)
        object.__setattr__(self, "stages", stages)

    def __str__(self) -> str:
        (_, first), *later = self.pairs
        return ", ".join([str(first), *(f"{size} from epoch {start + 1} on" for start, size in later)])

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(finished epochs, batch size) in ascending order."""
        return tuple(self.stages)  # type: ignore[arg-type]  # __post_init__ made a dict pairs


def batch_size_at(batch_size: int | Stages, epoch: int) -> int:
    """The batch size in an epoch, from 1."""
    if not isinstance(batch_size, Stages):
        return batch_size
    return [size for start, size in batch_size.pairs if start < epoch][-1]


def batch_sizes_of(batch_size: int | Stages) -> list[int]:
    """Every batch size of a run."""
    return [size for _, size in batch_size.pairs] if isinstance(batch_size, Stages) else [batch_size]
