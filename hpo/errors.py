"""Errors a person reads: one sentence that says what to do, and the exit code that goes with it."""


class HpoError(Exception):
    """A failure with a known mend. `str(error)` is the whole message; no traceback is shown."""

    exit_code = 1


class UsageError(HpoError):
    """What was asked for cannot be done as asked: a definition, a name or an option is wrong."""

    exit_code = 2
