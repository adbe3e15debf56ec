"""`hpo` and `python -m hpo`: starts the command line so that a signal ends it without a traceback at any moment."""

import os
import signal


def main() -> None:
    """Runs the command line."""
    if os.getpid() == 1:  # in a container, where these signals would otherwise be ignored until a worker is ready
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, _exit)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as by nohup
        from hpo.cli import main as run

        run()
        return
    # While modules are imported, and while the process ends, there is nothing to release and nothing to say.
    signal.signal(signal.SIGINT, _exit)
    from hpo.cli import main as run

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    finally:
        signal.signal(signal.SIGINT, _exit)


def _exit(number: int, _frame: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
