"""Errors that a person reads: one sentence that says what to do, the exit code, names probably meant."""

from collections.abc import Iterable
from difflib import SequenceMatcher


class HpoError(Exception):
    """A failure with a known mend. `str(error)` is the whole message; no traceback is shown."""

    exit_code = 1


class UsageError(HpoError):
    """What was asked for cannot be done as asked: a definition, a name or an option is wrong."""

    exit_code = 2


CLOSE = 0.6  # of 1, difflib's measure of likeness
EQUALLY = 0.15  # two names this near to each other in likeness are both offered


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'lambda'?" where a known name is close to `word`, or two are; else nothing.

    Capitals do not count, so that `adamw` finds `AdamW`.
    """
    names = list(map(str, known))
    likeness = {name: SequenceMatcher(None, word.casefold(), name.casefold()).ratio() for name in names}
    best = max(likeness.values(), default=0.0)
    if best < CLOSE:
        return ""
    near = sorted((name for name in likeness if likeness[name] > best - EQUALLY), key=lambda name: -likeness[name])
    chosen = near[:1] if best == 1 else [name for name in near[:2] if likeness[name] >= CLOSE]
    return f"; did you mean {' or '.join(map(repr, chosen))}?"
