"""The result of one check, and its line in the terminal."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

State = Literal["ok", "warning", "fails"]


class Check(NamedTuple):
    """A result: `text` is one sentence, which says what to do unless the state is "ok"."""

    name: str
    state: State
    text: str


def as_text(checks: Sequence[Check]) -> str:
    """One line per check, for a terminal."""
    width = max(len(check.name) for check in checks)
    return "\n".join(f"{check.state:<7}  {check.name:<{width}}  {check.text}" for check in checks)


def guarded(name: str, check: Callable[[], Sequence[Check]]) -> Sequence[Check]:
    """The results of `check()`; an unexpected error is a failed check, so that it does not hide the other results.

    Only the type of the error is shown: its message might contain a password.
    """
    try:
        return check()
    except Exception as error:
        return [Check(name, "fails", f"the check itself failed ({type(error).__name__}); please report this bug")]
