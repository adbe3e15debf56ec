"""`hpo` and `python -m hpo`: starts the command line so that a signal ends it without a traceback at any moment."""

import os
import signal
import sys
import threading

from hpo.reference_cycles import search_rarely

INTERRUPTED = 128 + signal.SIGINT  # the exit code
INTERRUPTED_WITHIN = 3.0  # seconds from Ctrl-C to the end of a command, unless it is a worker


def main() -> None:
    """Runs the command line."""
    search_rarely()
    if os.getpid() == 1:  # in a container, where these signals would otherwise be ignored until a worker is ready
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, _exit)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as by nohup
        from hpo.cli import main as run

        run()
        return
    report = sys.unraisablehook
    # Python cannot raise an exception from a destructor.
    sys.unraisablehook = lambda event: os._exit(INTERRUPTED) if event.exc_type is KeyboardInterrupt else report(event)
    # While modules are imported, and while the process ends, there is nothing to release and nothing to say.
    signal.signal(signal.SIGINT, _exit)
    from hpo.cli import main as run

    try:
        signal.signal(signal.SIGINT, _interrupt)
        run()
    finally:
        signal.signal(signal.SIGINT, _exit)


def _interrupt(_number: int, _frame: object) -> None:
    """Raises KeyboardInterrupt, and ends the process if that has not: libraries catch it, or return much later."""
    timer = threading.Timer(INTERRUPTED_WITHIN, os._exit, (INTERRUPTED,))
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt


def _exit(number: int, _frame: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
