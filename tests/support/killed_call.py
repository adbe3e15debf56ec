"""Calls of `hpo.housekeeping` in a process that kills itself before one of its SQL statements."""

import os
import signal
from typing import Any

import sqlalchemy as sa

from hpo import housekeeping


def call(name: str, statement: int, *arguments: Any) -> None:
    """Calls a function of `hpo.housekeeping`; SIGKILL before the statement of that number, from 1."""
    count = 0

    def before(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", before)
    getattr(housekeeping, name)(*arguments)
