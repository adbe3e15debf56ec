"""Which work comes next: pure decisions on counts of slots, without a database."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

STARTUP = 10  # TPE's random trials, asked together before it models anything


@dataclass(frozen=True)
class Group:
    """How the slots of one configuration, repeat and phase (newest round) stand.

    Attributes:
        open, leased, total: numbers of slots; `total` includes those done and failed.
        again: open slots that were leased before, to be taken over with the setting they had.
        startup_open, startup_leased: those of `open` and `leased` among the first STARTUP slots.
    """

    configuration: str
    repeat: int
    phase: str
    total: int = 0
    open: int = 0
    leased: int = 0
    again: int = 0
    startup_open: int = 0
    startup_leased: int = 0

    @property
    def unfinished(self) -> int:
        return self.open + self.leased

    def batch(self) -> tuple[int, int]:
        """(slots that may be leased now, size of a whole batch).

        Tuning goes in batches, because settings that are asked together cannot learn from each other: first
        the start-up trials, then at most a third of all trials at a time.
        """
        if self.phase == "rerun":
            return self.open, self.total
        if self.startup_open + self.startup_leased:
            return self.startup_open, min(STARTUP, self.total)
        most = max(1, self.total // 3)
        return max(0, min(self.open, most - self.leased)), most


class Choice(NamedTuple):
    """`size` slots of one configuration and phase; `repeat` is None where repeats may be mixed (reruns)."""

    configuration: str
    repeat: int | None
    phase: str
    size: int
    startup: bool


def tuning_unfinished(groups: Sequence[Group]) -> bool:
    return any(group.unfinished for group in groups if group.phase == "tune")


def choose(
    groups: Sequence[Group], limit: int, workers: int = 1, limits: Mapping[str, int] = MappingProxyType({})
) -> Choice | None:
    """The next work for one of `workers` equal workers, at most `limit` slots; None if all is held or done.

    `limits` holds for the configurations that it names, in the place of `limit`.

    Work that was begun and lost comes first, then the configuration with the largest share left to lease;
    ties go by the order of `groups`. Reruns start when the tuning of every configuration is over.
    """
    phase = "tune" if tuning_unfinished(groups) else "rerun"
    present = [group for group in groups if group.phase == phase]
    if phase == "rerun":
        present = _merged(present)
    ready = [group for group in present if group.batch()[0] > 0]
    if not ready:
        return None
    best = max(ready, key=lambda group: (group.again > 0, group.open / group.total))
    available, whole = best.batch()
    share = math.ceil(whole / _helpers(workers, sum(1 for group in present if group.unfinished)))
    return Choice(
        best.configuration,
        best.repeat if phase == "tune" else None,
        phase,
        min(limits.get(best.configuration, limit), available, share),
        startup=phase == "tune" and best.startup_open > 0,
    )


def _helpers(workers: int, unfinished: int) -> int:
    """Into how many populations a batch is parted.

    Where configurations are as few as workers or fewer, none should wait while another trains a whole batch: a
    configuration may cost several times as much as the next.
    """
    return 1 if unfinished > workers else min(workers, math.ceil((workers + 1) / unfinished))


def _merged(groups: Sequence[Group]) -> list[Group]:
    """The groups of one configuration added up over its repeats."""
    sums: dict[str, Group] = {}
    for group in groups:
        known = sums.get(group.configuration, Group(group.configuration, 0, group.phase))
        sums[group.configuration] = Group(
            group.configuration,
            0,
            group.phase,
            total=known.total + group.total,
            open=known.open + group.open,
            leased=known.leased + group.leased,
            again=known.again + group.again,
        )
    return list(sums.values())
