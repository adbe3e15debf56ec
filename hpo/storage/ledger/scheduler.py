"""Which work comes next: pure decisions on counts of slots, without a database.

The settings, and the runs that are trained together, must follow from the plan alone. So the slots of a tuning run are
in batches from the beginning, and a batch begins when those before it are finished in all tuning runs of its
configuration. The slots of the batch in all tuning runs form one sequence, which is cut into populations of equal size;
the cuts depend neither on the workers nor on lost attempts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from hpo.trials import SEQUENCES, STARTUP_TRIALS, Phase

Totals = Mapping[tuple[str, str], int]  # (configuration, phase) → its planned trials or reruns in all tuning runs


@dataclass(frozen=True)
class Group:
    """The states of the slots of one configuration, tuning run, phase and batch (for reruns: of the newest round).

    Attributes:
        open, leased, total: numbers of slots; `total` includes finished and failed ones.
        interrupted: open slots that were leased before; they are resumed with their settings.
        first, first_open, first_interrupted: the lowest slot of all, of the open and of the interrupted ones.
            `total` and `first` matter for trials of the first unfinished batch only.
    """

    configuration: str
    tuning_run: int
    phase: str
    round: int = 0
    batch: int = 0
    total: int = 0
    open: int = 0
    leased: int = 0
    interrupted: int = 0
    first: int = 0
    first_open: int | None = None
    first_interrupted: int | None = None

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
    phase: Phase
    parts: list[Part]


def batch_sizes(begun: int, total: int, sampler: str = "tpe", generation: int = 0) -> list[int]:
    """The sizes of the batches of a tuning run of `total` trials, from trial `begun` on.

    The settings of a batch are sampled together and cannot learn from each other: first the start-up trials, then at
    most a third of all trials at a time. Samplers that do not learn have a single batch.

    Args:
        generation: the size of the generations of "cmaes", which are its batches.
    """
    if sampler in SEQUENCES:
        return [total - begun] if total > begun else []
    if sampler == "cmaes":
        return [min(generation, total - start) for start in range(begun, total, generation)]
    startup = max(0, min(STARTUP_TRIALS, total) - begun)
    return [*([startup] if startup else []), *_even_parts(total - begun - startup, max(1, total // 3))]


def being_tuned(groups: Sequence[Group]) -> set[str]:
    """The configurations with unfinished trials."""
    return {group.configuration for group in groups if group.phase == "tune" and group.unfinished}


def can_begin(groups: Sequence[Group]) -> bool:
    """Whether `choose` finds a population."""
    return any(group.open for present in _present(groups).values() for group in present)


def choose(groups: Sequence[Group], totals: Totals, size: int, populations: int = 1) -> Choice | None:
    """The next population, of at most `size` slots; None if every slot is leased or finished.

    Interrupted slots come first, then trials, whose batches wait for each other, then the configuration with the
    largest share of unfinished slots, then of open ones; ties go by the order of `groups`. The reruns of a
    configuration start when its tuning is over.

    Args:
        groups: those with unfinished slots, and for trials all others of the first unfinished batch.
        populations: of the reruns of a configuration at least, where each can have two slots: nothing may come after
            them that another worker could do.
    """
    in_tuning = being_tuned(groups)
    present = {name: every for name, every in _present(groups).items() if any(group.open for group in every)}
    if not present:
        return None

    def phase(name: str) -> Phase:
        return "tune" if name in in_tuning else "rerun"

    def urgency(name: str) -> tuple[bool, bool, float, float]:
        left = [group for group in groups if group.configuration == name and group.phase == phase(name)]
        interrupted, total = any(group.interrupted for group in present[name]), totals[name, phase(name)]
        unfinished, open_slots = sum(group.unfinished for group in left), sum(group.open for group in left)
        return interrupted, phase(name) == "tune", unfinished / total, open_slots / total

    best = max(present, key=urgency)
    if best in in_tuning:
        return Choice(best, "tune", _trials(present[best], size))
    return Choice(best, "rerun", _reruns(present[best], totals[best, "rerun"], size, populations))


def _present(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Configuration → the groups of its first unfinished batch, or of its reruns once its tuning is over."""
    in_tuning = being_tuned(groups)
    by_configuration: dict[str, list[Group]] = {}
    for group in groups:
        if (group.phase == "tune") == (group.configuration in in_tuning):
            by_configuration.setdefault(group.configuration, []).append(group)
    return {name: _in_first_unfinished_batch(every) for name, every in by_configuration.items()}


def _in_first_unfinished_batch(groups: Sequence[Group]) -> list[Group]:
    """The groups of one configuration that may be leased: all reruns, or those of the first unfinished batch."""
    batch = min((group.batch for group in groups if group.unfinished), default=None)
    return [group for group in groups if group.batch == batch]


def _trials(groups: Sequence[Group], size: int) -> list[Part]:
    """The population of the first interrupted trial, else of the first open one, in the sequence of all tuning runs."""
    starts = [0, *accumulate(group.total for group in groups)]
    positions = [
        (priority, start + slot - group.first)
        for group, start in zip(groups, starts, strict=False)
        for priority, slot in enumerate((group.first_interrupted, group.first_open))
        if slot is not None
    ]
    low, high = _population(min(positions)[1], starts[-1], size)
    parts = []
    for group, start in zip(groups, starts, strict=False):
        first, last = max(0, low - start), min(group.total, high - start)
        if first < last:
            parts.append(Part(group.tuning_run, group.round, group.batch, group.first + first, group.first + last))
    return parts


def _reruns(groups: Sequence[Group], total: int, size: int, populations: int) -> list[Part]:
    """The same for reruns, whose slots are numbered across all tuning runs."""
    interrupted = [group.first_interrupted for group in groups if group.first_interrupted is not None]
    free = [group.first_open for group in groups if group.first_open is not None]
    low, high = _population(min(interrupted or free), total, size, populations)
    return [Part(group.tuning_run, group.round, group.batch, low, high) for group in groups if group.open]


def _population(position: int, total: int, size: int, populations: int = 1) -> tuple[int, int]:
    """Start and end of the population that contains `position`, in a sequence of `total` slots."""
    bounds = pairwise(accumulate(_even_parts(total, size, populations), initial=0))
    return next((start, end) for start, end in bounds if position < end)


def _even_parts(total: int, max_size: int, at_least: int = 1) -> list[int]:
    """The sizes of as few parts as possible of at most `max_size`, as equal as possible, the larger ones first.

    Args:
        at_least: how many parts, where that leaves two for each.
    """
    parts = max(-(-total // max_size), min(at_least, total // 2))
    return [total // parts + (number < total % parts) for number in range(parts)]
