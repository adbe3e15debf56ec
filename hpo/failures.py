"""Failures by cause: one set of words for the status, the progress and the report.

A run that diverged is finished and counts. The other causes end an attempt, which is made again; a run that no attempt
is left for has failed for good.
"""

from collections.abc import Mapping

CAUSES = ("diverged", "out of memory", "exception", "lost worker", "timeout")


def by_cause(diverged: int, attempts: Mapping[str, int]) -> dict[str, int]:
    """Cause → how often, only causes that occurred, always in the same order.

    Args:
        diverged: runs that diverged. attempts: other causes → attempts that they ended.
    """
    found = {"diverged": diverged, **attempts}
    known = [cause for cause in CAUSES if cause in found]
    return {cause: found[cause] for cause in [*known, *sorted(found.keys() - set(CAUSES))] if found[cause]}


def in_words(causes: Mapping[str, int], for_good: int = 0) -> str:
    """ "diverged × 2, exception × 4; 2 runs failed for good"; nothing for no failure."""
    words = ", ".join(f"{cause} × {times}" for cause, times in causes.items())
    lasting = f"{for_good} run{'' if for_good == 1 else 's'} failed for good" if for_good else ""
    return "; ".join(part for part in (words, lasting) if part)
