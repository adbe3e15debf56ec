"""One thing looked at, and how it is told."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

State = Literal["ok", "warning", "fails"]


class Check(NamedTuple):
    """What was found: `text` is one sentence, with what to do about it unless the state is "ok"."""

    name: str
    state: State
    text: str


def as_text(checks: Sequence[Check]) -> str:
    """One line a check, for a terminal."""
    width = max(len(check.name) for check in checks)
    return "\n".join(f"{check.state:<7}  {check.name:<{width}}  {check.text}" for check in checks)


def guarded(name: str, look: Callable[[], Sequence[Check]]) -> Sequence[Check]:
    """`look()`; what it did not foresee is a failed check, so that one thing broken does not hide the others.

    Only the kind of an unforeseen error is told: its words might hold a password.
    """
    try:
        return look()
    except Exception as error:
        return [Check(name, "fails", f"this could not be looked at ({type(error).__name__}); please report it")]
