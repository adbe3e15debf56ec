"""Which work comes next: pure decisions on counts of slots, without a database.

What is tried, and who trains beside whom, must follow from the plan alone. So the slots of a tuning run are in batches
from the beginning, and a batch begins when those before it are finished in all tuning runs of its configuration. These
slots stand in a row, which is cut into populations of one size, whoever trains them and whatever was lost on the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from hpo.trials import STARTUP_TRIALS


@dataclass(frozen=True)
class Group:
    """How the slots of one configuration, tuning run, phase and batch (of reruns: of the newest round) stand.

    Attributes:
        open, leased, total: numbers of slots; `total` includes those done and failed.
        again: open slots that were leased before, to be taken over with the setting they had.
        first, first_open, first_again: the lowest slot of all, of the open ones and of those to be taken over.
    """

    configuration: str
    tuning_run: int
    phase: str
    round: int = 0
    batch: int = 0
    total: int = 0
    open: int = 0
    leased: int = 0
    again: int = 0
    first: int = 0
    first_open: int | None = None
    first_again: int | None = None

    @property
    def unfinished(self) -> int:
        return self.open + self.leased


class Part(NamedTuple):
    """Slots `first` up to `last` (not included) of one tuning run, round and batch."""

    tuning_run: int
    round: int
    batch: int
    first: int
    last: int


class Choice(NamedTuple):
    """One population of a configuration and phase; those of its slots that are open may be leased."""

    configuration: str
    phase: str
    parts: list[Part]


def batch_sizes(begun: int, total: int) -> list[int]:
    """How many settings a tuning run asks for at a time, from trial `begun` on; one after another, `total` trials.

    Settings that are asked together cannot learn from each other: first the start-up trials, then at most a third of
    all trials at a time.
    """
    startup = max(0, min(STARTUP_TRIALS, total) - begun)
    return [*([startup] if startup else []), *_even(total - begun - startup, max(1, total // 3))]


def tuning_unfinished(groups: Sequence[Group]) -> bool:
    return any(group.unfinished for group in groups if group.phase == "tune")


def choose(groups: Sequence[Group], size: int) -> Choice | None:
    """The next population, of at most `size` slots; None if all is held or done.

    Work that was begun and lost comes first, then the configuration with the largest share left to lease; ties go by
    the order of `groups`. Reruns start when the tuning of every configuration is over.
    """
    phase = "tune" if tuning_unfinished(groups) else "rerun"
    by_configuration: dict[str, list[Group]] = {}
    for group in groups:
        if group.phase == phase:
            by_configuration.setdefault(group.configuration, []).append(group)
    present = {name: _present(own) for name, own in by_configuration.items()}
    ready = [name for name, own in present.items() if any(group.open for group in own)]
    if not ready:
        return None

    def urgency(name: str) -> tuple[bool, float]:
        every = by_configuration[name]
        again = any(group.again for group in present[name])
        return again, sum(group.open for group in every) / sum(group.total for group in every)

    best = max(ready, key=urgency)
    parts = _trials(present[best], size) if phase == "tune" else _reruns(present[best], size)
    return Choice(best, phase, parts)


def _present(groups: Sequence[Group]) -> list[Group]:
    """The groups of one configuration that may be worked on: all reruns, or the first batch that is not finished."""
    batch = min((group.batch for group in groups if group.unfinished), default=None)
    return [group for group in groups if group.batch == batch]


def _trials(groups: Sequence[Group], size: int) -> list[Part]:
    """The population of the first trial that was lost, else of the first open one, in a row of all tuning runs."""
    starts = [0, *accumulate(group.total for group in groups)]
    places = [
        (kind, start + slot - group.first)
        for group, start in zip(groups, starts, strict=False)
        for kind, slot in enumerate((group.first_again, group.first_open))
        if slot is not None
    ]
    low, high = _population(min(places)[1], starts[-1], size)
    parts = []
    for group, start in zip(groups, starts, strict=False):
        first, last = max(0, low - start), min(group.total, high - start)
        if first < last:
            parts.append(Part(group.tuning_run, group.round, group.batch, group.first + first, group.first + last))
    return parts


def _reruns(groups: Sequence[Group], size: int) -> list[Part]:
    """The same among reruns, whose slots are numbered across all tuning runs."""
    lost = [group.first_again for group in groups if group.first_again is not None]
    free = [group.first_open for group in groups if group.first_open is not None]
    low, high = _population(min(lost or free), sum(group.total for group in groups), size)
    return [Part(group.tuning_run, group.round, group.batch, low, high) for group in groups]


def _population(place: int, total: int, size: int) -> tuple[int, int]:
    """From where to where the population of a place reaches in a row of so many."""
    ends = list(accumulate(_even(total, size)))
    number = next(number for number, end in enumerate(ends) if place < end)
    return ends[number] - _even(total, size)[number], ends[number]


def _even(total: int, most: int) -> list[int]:
    """Parts of at most `most`, as few and as equal as can be, the larger ones first."""
    parts = -(-total // most)
    return [total // parts + (number < total % parts) for number in range(parts)]
