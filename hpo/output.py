"""Lines for a terminal or a log, in which no text from outside can move the cursor or change the terminal."""

import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# C0 and C1 controls and DEL; direction marks, which reorder what is shown; line separators; halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object, keep: str = "") -> str:
    """Text with its control characters as escapes such as `\\u001b`, which JSON has as well; those in `keep` stay."""
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", str(text))


def write_line(text: object = "", error: bool = False) -> None:
    """Writes text and a newline to standard output, or to standard error; line breaks and tabs in it stay."""
    print(visible(text, keep="\n\t"), file=sys.stderr if error else sys.stdout, flush=True)


@contextmanager
def logging_to(handler: logging.Handler, name: str = "") -> Iterator[None]:
    """Gives the handler what is logged below this name until the block ends; a later command has its own handler."""
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def guard_reports_of_python() -> None:
    """Does the same to what Python itself writes: uncaught exceptions, warnings and log records without a handler."""
    original, handler = warnings.formatwarning, logging.lastResort

    def format_warning(*details: Any, **more: Any) -> str:
        return visible(original(*details, **more), keep="\n\t")

    def write_exception(kind: Any, error: Any, trace: Any) -> None:
        write_line("".join(traceback.format_exception(kind, error, trace)).rstrip(), error=True)

    warnings.formatwarning = format_warning
    sys.excepthook = write_exception
    threading.excepthook = lambda details: write_exception(details.exc_type, details.exc_value, details.exc_traceback)
    if handler is not None:
        handler.setFormatter(VisibleFormatter())


class VisibleFormatter(logging.Formatter):
    """Formats log records without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), keep="\n\t")
