"""Errors shown to a person: one sentence that says what is wrong and what to do, and the words that all share."""

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeGuard

ABBREVIATIONS = {"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size"}


class HpoError(Exception):
    """A failure with a known remedy. `str(error)` is the whole message; no traceback is shown."""

    exit_code = 1


class UsageError(HpoError):
    """A definition, a name or an option is wrong."""

    exit_code = 2


def require(valid: bool, name: str, value: object, expected: str) -> None:
    """Raises UsageError("NAME is VALUE; give EXPECTED") unless the value is valid."""
    if not valid:
        raise UsageError(f"{name} is {value!r}; give {expected}")


def require_whole(name: str, value: object, minimum: int = 1) -> None:
    """Raises UsageError unless the value is an int (not a bool) of at least `minimum`."""
    require(is_whole(value, minimum), name, value, f"a whole number of at least {minimum}")


def is_whole(value: object, minimum: int) -> bool:
    """Whether a value is an int (not a bool) of at least `minimum`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number and not True or False."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_fraction_below_one(value: object) -> bool:
    """Whether a value is a number (not a bool) in [0, 1)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'lambda'?" where one or two known names are close to `word`, else an empty string.

    Upper and lower case do not count, so that `adamw` finds `AdamW`, and the last part of a name with dots is enough,
    so that `width` finds `model.width`; `lr` finds `learning_rate`.
    """
    full = {str(name).casefold(): str(name) for name in known}
    names = {name.rpartition(".")[2]: given for name, given in full.items()} | full
    word = ABBREVIATIONS.get(word.casefold(), word.casefold())
    close = [word] if word in names else get_close_matches(word, names, 2, 0.75)
    close = close or get_close_matches(word, names, 1, 0.65)
    found = dict.fromkeys(repr(names[name]) for name in sorted(close))
    return f"; did you mean {' or '.join(found)}?" if found else ""


def check_configuration(study: str, name: str, known: Iterable[str]) -> None:
    """Raises UsageError unless a study has a configuration of this name."""
    names = list(known)
    if name not in names:
        hint = did_you_mean(name, names)
        raise UsageError(f"{study} has no configuration {name!r}; choose one of {', '.join(names)}{hint}")


def plural(number: int, noun: str, plural_noun: str = "") -> str:
    """ "1 seed", "3 seeds"; `plural_noun` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural_noun or noun + 's'}"
